// The official Webex SDK at one end, slixmpp at the other, and the real connector between: alice has the Webex App, bob has
// Jabber. Each end is judged by what its own client was brought, opened by itself.
//
//     node bridge.js ENDPOINTS_FILE PYTHON BOT_SCRIPT
//
// PYTHON has slixmpp; the lab and its connector run. Whoever plays this scene reads its output: on a line `please kill` or
// `please stop` the connector is killed or asked to end, is started again, and a line is written to the scene's input.
'use strict';

const {spawn} = require('node:child_process');
const readline = require('node:readline');
const {assert, endpoints, person, Inbox, signIn, signOut, control, fault, interrupt, step, play} = require('./sdk');

const [python, script] = process.argv.slice(3);

const answers = readline.createInterface({input: process.stdin});
/** The connector ends in this way and is started again, and is up. */
function restart(how) {
  const up = new Promise((resolve) => answers.once('line', resolve));
  console.log(`please ${how}`);
  return up;
}

/** A slixmpp client of a person: JSON lines both ways. */
class Jabber {
  constructor(user) {
    const [host, port] = endpoints.xmpp_client.split(':');
    const args = [script, host, port, `${user.jid}/slix`, user.password];
    this.child = spawn(python, args, {stdio: ['pipe', 'pipe', 'inherit']});
    this.inbox = new Inbox();
    readline.createInterface({input: this.child.stdout}).on('line', (line) => this.inbox.add(JSON.parse(line)));
  }

  does(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  wait(expected, what) {
    const fits = (event) => Object.entries(expected).every(([name, value]) => event[name] === value);
    return this.inbox.wait(fits, what || JSON.stringify(expected));
  }

  /** The texts that came from somebody, in order. */
  heard(peer) {
    return this.inbox.events.filter((event) => event.event === 'message' && event.peer === peer).map(({body}) => body);
  }
}

play(async () => {
  const [aliceUser, bobUser] = [person('alice'), person('bob')];
  // The built-in clients of the two would answer, and read, and be seen as well.
  for (const client of ['alice/jabber', 'alice/webex', 'bob/jabber', 'bob/webex']) {
    await control('/act', {client, what: 'offline'});
  }
  const alice = await step('alice signs in to the Webex App', () => signIn(aliceUser, {refreshable: true}));
  const bob = new Jabber(bobUser);
  await step('bob signs in to Jabber', () => bob.wait({event: 'ready'}));
  const {conversation: app} = alice.sdk;
  const from = (text) => (activity) =>
    activity.verb === 'post' && activity.actor.id === bobUser.person_id && activity.object.displayName === text;

  const conversation = await step('the first message makes the 1:1', () =>
    app.create({participants: [bobUser.mail], comment: 'hello from the Webex App'}));
  await step('bob reads it in Jabber', () =>
    bob.wait({event: 'message', peer: aliceUser.jid, body: 'hello from the Webex App'}));

  const answer = await step('bob answers, and alice reads it as his', async () => {
    bob.does({do: 'say', to: aliceUser.jid, body: 'grüße ☕ <b> & co'});
    return alice.inbox.activity(from('grüße ☕ <b> & co'), 'the answer');
  });
  assert.strictEqual(answer.target.id, conversation.id, 'it is in the same conversation');

  await step('a conversation keeps its order', async () => {
    for (let n = 0; n < 10; n += 1) {
      bob.does({do: 'say', to: aliceUser.jid, body: `jabber ${n}`});
      await app.post(conversation, {displayName: `webex ${n}`});
    }
    await alice.inbox.activity(from('jabber 9'), 'the tenth of bob');
    await bob.wait({event: 'message', body: 'webex 9'});
  });

  await step('alice types', async () => {
    await app.updateTypingStatus(conversation, {typing: true});
    await bob.wait({event: 'typing', peer: aliceUser.jid});
  });
  await step('bob types', async () => {
    bob.does({do: 'type', to: aliceUser.jid});
    const typing = await alice.inbox.wait((data) => data.eventType === 'status.start_typing', 'typing');
    assert.strictEqual(typing.actor.id, bobUser.person_id);
  });

  await step('alice reads, and bob sees that', async () => {
    bob.does({do: 'say', to: aliceUser.jid, body: 'read this', id: 'to-be-read'});
    const activity = await alice.inbox.activity(from('read this'), 'what is to be read');
    await app.acknowledge(conversation, activity);
    await bob.wait({event: 'read', id: 'to-be-read'});
  });
  await step('bob reads, and alice sees that', async () => {
    const posted = await app.post(conversation, {displayName: 'read that'});
    const message = await bob.wait({event: 'message', body: 'read that'});
    bob.does({do: 'read', to: aliceUser.jid, id: message.id});
    const read = await alice.inbox.activity(
      (activity) => activity.verb === 'acknowledge' && activity.object.id === posted.id, 'the mark');
    assert.strictEqual(read.actor.id, bobUser.person_id);
  });

  await step('a group of Webex is nothing to Jabber, and nothing in it is marked', async () => {
    const group = await app.create(
      {displayName: 'a group', participants: [bobUser.mail, person('erin').mail], comment: 'first for the group'});
    const inGroup = await app.post(group, {displayName: 'for the group'});
    const behind = await app.post(conversation, {displayName: 'behind the group'});
    const message = await bob.wait({event: 'message', body: 'behind the group'});
    bob.does({do: 'read', to: aliceUser.jid, id: message.id});
    await alice.inbox.activity(
      ({verb, object}) => verb === 'acknowledge' && object.id === behind.id, 'the mark in the 1:1');
    // Nothing waits in the connector any more, so that nothing of the group can come.
    while (!await control('/idle')) await new Promise((resolve) => setTimeout(resolve, 200));
    assert.deepStrictEqual(bob.heard(aliceUser.jid).filter((body) => body.includes('for the group')), []);
    const marks = alice.inbox.events.filter(({activity}) =>
      activity?.verb === 'acknowledge' && activity.target.id === group.id);
    assert.deepStrictEqual(marks, []);
    const authorization = `Bearer ${alice.webex.credentials.supertoken.access_token}`;
    const seen = await fetch(`${group.url}?participantAckFilter=all`, {headers: {authorization}});
    for (const {id, roomProperties} of (await seen.json()).participants.items) {
      assert(id === aliceUser.person_id || !roomProperties?.lastSeenActivityUUID, `${id} has read ${inGroup.id}`);
    }
  });

  await step('an edit is told', async () => {
    const posted = await app.post(conversation, {displayName: 'at nine'});
    await bob.wait({event: 'message', body: 'at nine'});
    await app.post(conversation, {displayName: 'at ten'}, {parent: {id: posted.id, type: 'edit'}});
    await bob.wait({event: 'message', body: 'at ten'});
  });
  const deleted = 'Alice Liddell used Webex App to delete a previously posted message';
  const deletions = () => bob.heard(aliceUser.jid).filter((body) => body === deleted).length;
  await step('a deletion is told', async () => {
    const posted = await app.post(conversation, {displayName: 'never mind'});
    await bob.wait({event: 'message', body: 'never mind'});
    await app.delete(conversation, posted);
    await bob.wait({event: 'message', body: deleted});
  });

  await step('a shared file comes as its name and a link, and its deletion is told', async () => {
    const file = Object.assign(Buffer.from('a plan'), {name: 'plan.txt', displayName: 'plan.txt', mimeType: 'text/plain'});
    const share = app.makeShare(conversation);
    await share.add(file);
    const shared = await app.share(conversation, share);
    const {url} = shared.object.files.items[0];
    await bob.wait({event: 'message', body: 'plan.txt'});
    await bob.wait({event: 'message', body: url});
    const before = deletions();
    await app.delete(conversation, shared);
    await bob.inbox.wait(() => deletions() > before, 'the second deletion');
  });
  await step('a file sent in Jabber comes as a notice, and no file', async () => {
    bob.does({do: 'file', to: aliceUser.jid, url: 'https://imp.corp.example:7336/files/notes.pdf'});
    await alice.inbox.activity(from('A file was sent in Jabber and can be opened there: notes.pdf'), 'the notice');
    const shares = alice.inbox.events.filter(({activity}) =>
      activity?.verb === 'share' && activity.actor.id === bobUser.person_id);
    assert.deepStrictEqual(shares, []);
  });

  await step('alice is seen as she is', async () => {
    await alice.sdk.presence.setStatus('dnd', 600);
    await bob.wait({event: 'presence', peer: aliceUser.jid, show: 'dnd'});
    await alice.sdk.presence.setStatus('active', 600);
    const {events} = bob.inbox;
    const since = events.findIndex(({event, show}) => event === 'presence' && show === 'dnd');
    await bob.inbox.wait((event) =>
      events.indexOf(event) > since && event.peer === aliceUser.jid && event.status === '@ Webex', 'active again');
  });

  // Reconnects in the middle of a conversation: of each end, and of the connector's own links.
  // What slixmpp had sent and was not acknowledged it sends again after what it is told to say meanwhile, so that the order
  // of the two is its own: the next is said when it is back.
  const back = () => bob.inbox.events.filter(({event}) => event === 'resumed' || event === 'ready').length;
  const cutBob = async (name) => {
    const before = back();
    await fault(name, {person: 'bob'});
    await bob.inbox.wait(() => back() > before, 'the stream again');
  };
  const cuts = [
    ["the App's socket, and the connector's for alice", () => interrupt(alice, 1001, 'on purpose', 2)],
    ["the connector's socket for bob", () => fault('mercury-cut', {person: 'bob'})],
    ["Jabber's stream", () => cutBob('imp-client-cut')],
    ["Jabber's stream during a write", () => cutBob('imp-client-cut-after-writing')],
    ["the connector's link", () => fault('imp-link-cut')],
    ["the connector's link during a write", () => fault('imp-link-cut-after-writing')],
    ['the connector, which is killed,', () => restart('kill')],
    ['the connector, which is stopped,', () => restart('stop')],
  ];
  for (const [index, [what, cut]] of cuts.entries()) {
    await step(`a break of ${what} in the middle`, async () => {
      const text = (side, n) => `${side} ${index}.${n}`;
      const say = async (n) => {
        bob.does({do: 'say', to: aliceUser.jid, body: text('from jabber', n)});
        await app.post(conversation, {displayName: text('from webex', n)});
      };
      await say(0);
      const broken = cut();
      await say(1);
      await broken;
      await say(2);
      for (let n = 0; n < 3; n += 1) await bob.wait({event: 'message', body: text('from webex', n)});
      // What came while the App's own socket was away the App reads from a listing; here it is asked for by the SDK.
      const listed = async () => {
        const page = await app.listActivities({conversationUrl: conversation.url, limit: 200});
        return (page.items || page).map((item) => item.object?.displayName).filter(Boolean);
      };
      const wanted = [0, 1, 2].map((n) => text('from jabber', n));
      for (;;) {
        const there = (await listed()).filter((body) => wanted.includes(body));
        if (there.length >= wanted.length) {
          assert.deepStrictEqual(there, wanted, 'each once, in order');
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    });
  }

  await step('everything came once and in order at both ends', async () => {
    const toBob = bob.heard(aliceUser.jid);
    const counted = (texts, prefix) => texts.filter((text) => text?.startsWith(prefix));
    const series = (prefix, n) => Array.from({length: n}, (_, index) => `${prefix}${index}`);
    assert.deepStrictEqual(counted(toBob, 'webex '), series('webex ', 10));
    assert.deepStrictEqual(counted(alice.inbox.texts(), 'jabber '), series('jabber ', 10));
    const through = cuts.flatMap((_, index) => [0, 1, 2].map((n) => `from webex ${index}.${n}`));
    assert.deepStrictEqual(counted(toBob, 'from webex '), through);
  });

  bob.child.stdin.end();
  await step('alice signs out', () => signOut(alice));
});
