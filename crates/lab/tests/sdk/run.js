// The official Webex SDK, unmodified, against the lab's cloud, several clients at once. They sign in, talk, read, edit and
// delete, share files, make groups, look at each other's presence, lose sockets and tokens and keys, and sign out.
//
//     npm ci --legacy-peer-deps --ignore-scripts
//     node run.js ENDPOINTS_FILE [SEED]
//
// Without --legacy-peer-deps the SDK's own lock does not install. The file is what the lab writes with --endpoints; with --tls,
// NODE_EXTRA_CA_CERTS must name its `ca`. With SEED, answers are late, lost, repeated and slow all the while, by chance of that
// seed. Exit status 0 only if every step passed; one line is printed a step.
'use strict';

const {
  assert, endpoints, person, within, signIn: signInTo, signOut, control, fault, interrupt, refused, step, play,
} = require('./sdk');

const seed = process.argv[3] && Number(process.argv[3]);

const signIn = (user, options) => signInTo(user, {...options, impatient: Boolean(seed)});

/** What an SDK client lives with unharmed, each with a chance of one half. */
const NUISANCES = {
  'kms-delay': 1_000,
  'kms-drop': undefined,
  'mercury-repeat': undefined,
  'http-trickle': 1_000,
  'list-slow': 1_000,
  'find-slow': 1_000,
  'create-slow': 1_000,
  'device-slow': 1_000,
  'presence-slow': 1_000,
  'file-slow': 1_000,
  'kms-slow': 1_000,
};

async function annoy() {
  for (const [name, value] of Object.entries(NUISANCES)) {
    // A key service that loses too many answers in a row is waited for longer than a step has.
    await control('/fault', {name, on: true, seed, value, count: name === 'kms-drop' ? 4 : undefined});
  }
}

/** Each nuisance has struck, or this run was like any other: what chance has spared is done until it is not. */
async function annoyed({sdk}, conversation, other) {
  const again = {
    'list-slow': () => sdk.conversation.list({conversationsLimit: 1}),
    'find-slow': () => sdk.conversation.get({user: {id: other.user.person_id}}),
    'create-slow': () => sdk.conversation.create({displayName: 'n', participants: [other.user.mail, person('erin').mail]}),
    'device-slow': () => sdk.device.refresh(),
    'presence-slow': () => sdk.presence.get([other.user.person_id]),
    'file-slow': () => sdk.request({method: 'PUT', uri: `${conversation.url}/space`}),
  };
  for (const name of Object.keys(NUISANCES)) {
    const struck = async () => (await control('/faults')).find((listed) => listed.name === name).hits > 0;
    for (let n = 0; n < 50 && again[name] && !await struck(); n += 1) await again[name]();
    assert(await struck(), `${name} never struck`);
  }
}

play(async () => {
  if (seed) await annoy();
  const alice = await step('alice signs in', () => signIn(person('alice'), {refreshable: true}));
  const bob = await step('bob signs in', () => signIn(person('bob')));
  const [a, b] = [alice.webex.internal, bob.webex.internal];

  let conversation = await step('a 1:1 is found or made by mail address', () =>
    a.conversation.create({participants: [bob.user.mail], comment: `first ${Date.now()}`}));
  assert(conversation.tags.includes('ONE_ON_ONE'));
  await step('making it again gives the same', async () => {
    const again = await a.conversation.create({participants: [bob.user.mail]});
    assert.strictEqual(again.id, conversation.id);
  });

  const text = `zwölf Boxkämpfer ${Date.now()}`;
  const posted = await step('a message is posted', () => a.conversation.post(conversation, {displayName: text}));
  assert(posted.id && posted.clientTempId && posted.published && posted.actor.id === alice.user.person_id);
  const received = await step('the other receives it opened', () =>
    bob.inbox.activity((activity) => activity.id === posted.id, 'the message'));
  assert.strictEqual(received.object.displayName, text);
  assert.strictEqual(received.clientTempId, posted.clientTempId);
  await step('the sender\'s own socket brings it too', () =>
    alice.inbox.activity((activity) => activity.id === posted.id, 'the own message'));

  await step('formatted text', async () => {
    const rich = await b.conversation.post(conversation, {displayName: 'bold', content: '<strong>bold</strong>'});
    const seen = await alice.inbox.activity((activity) => activity.id === rich.id, 'the formatted message');
    assert.strictEqual(seen.object.content, '<strong>bold</strong>');
  });

  await step('it is acknowledged', async () => {
    await b.conversation.acknowledge(conversation, received);
    const read = (activity) => activity.verb === 'acknowledge' && activity.object.id === posted.id;
    const seen = await alice.inbox.activity(read, 'the read mark');
    assert.strictEqual(seen.actor.id, bob.user.person_id);
    const fresh = await a.conversation.get({url: conversation.url}, {participantAckFilter: 'all'});
    const reader = fresh.participants.items.find((item) => item.id === bob.user.person_id);
    assert(reader.roomProperties.lastSeenActivityUUID);
  });

  await step('typing', async () => {
    await b.conversation.updateTypingStatus(conversation, {typing: true});
    const typing = await alice.inbox.wait((data) => data.eventType === 'status.start_typing', 'typing');
    assert.strictEqual(typing.actor.id, bob.user.person_id);
    assert.strictEqual(typing.conversationId, conversation.id);
  });

  await step('an edit', async () => {
    const edit = await a.conversation.post(conversation, {displayName: 'edited'}, {
      parent: {id: posted.id, type: 'edit'},
    });
    const seen = await bob.inbox.activity((activity) => activity.id === edit.id, 'the edit');
    assert.strictEqual(seen.object.displayName, 'edited');
    assert.deepStrictEqual({id: seen.parent.id, type: seen.parent.type}, {id: posted.id, type: 'edit'});
  });

  await step('a deletion leaves a tombstone', async () => {
    const doomed = await a.conversation.post(conversation, {displayName: 'doomed'});
    await a.conversation.delete(conversation, doomed);
    await bob.inbox.activity(
      (activity) => activity.verb === 'delete' && activity.object.id === doomed.id, 'the deletion');
    // Listings may show things late.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const activities = await b.conversation.listActivities({conversationUrl: conversation.url});
    const items = activities.items || activities;
    const verbs = Object.fromEntries(items.map((item) => [item.id, item.verb]));
    assert.strictEqual(verbs[doomed.id], 'tombstone');
    assert(Object.values(verbs).includes('delete'));
    assert(!Object.values(verbs).includes('acknowledge'));
  });

  await step('conversations are listed and got', async () => {
    const list = await b.conversation.list({conversationsLimit: 10});
    const items = list.items || list;
    assert(items.some((item) => item.id === conversation.id));
    conversation = await a.conversation.get({url: conversation.url}, {activitiesLimit: 5, includeParticipants: true});
    assert.strictEqual(conversation.participants.items.length, 2);
    const found = await a.conversation.get({user: {id: bob.user.person_id}});
    assert.strictEqual(found.id, conversation.id);
  });

  await step('a file is shared and fetched', async () => {
    const bytes = Buffer.from(`file of ${Date.now()}`);
    const file = Object.assign(bytes, {name: 'n.txt', displayName: 'n.txt', mimeType: 'text/plain'});
    const share = a.conversation.makeShare(conversation);
    await share.add(file);
    const shared = await a.conversation.share(conversation, share);
    const seen = await bob.inbox.activity((activity) => activity.id === shared.id, 'the file');
    assert.strictEqual(seen.object.files.items[0].displayName, 'n.txt');
    const fetched = await b.conversation.download(seen.object.files.items[0]);
    assert.strictEqual(Buffer.from(fetched).toString(), bytes.toString());
  });

  const erin = person('erin');
  await step('a group: made, named, added to, left', async () => {
    const carol = person('carol');
    const group = await a.conversation.create({
      displayName: 'a title',
      participants: [bob.user.mail, carol.mail],
    }, {noActivities: true});
    await bob.inbox.activity((activity) => activity.verb === 'create' && activity.object.id === group.id, 'the group');
    await a.conversation.update(group, {displayName: 'another title', objectType: 'conversation'});
    const named = await bob.inbox.activity((activity) => activity.verb === 'update', 'the new title');
    assert.strictEqual(named.object.displayName, 'another title');
    await a.conversation.add(group, erin.mail);
    const grown = await a.conversation.get({url: group.url}, {includeParticipants: true});
    assert.strictEqual(grown.participants.items.length, 4);
    assert.strictEqual(grown.displayName, 'another title');
    await b.conversation.leave(group);
    const left = await a.conversation.get({url: group.url}, {includeParticipants: true});
    assert.strictEqual(left.participants.items.length, 3);
    await a.conversation.hide(group);
  });

  await step('presence: got, listed, subscribed to, set', async () => {
    const got = await a.presence.get([bob.user.person_id]);
    assert.strictEqual(got.statusList ? got.statusList[0].subject : got.subject, bob.user.person_id);
    const list = await a.presence.list([bob.user.person_id, erin.person_id]);
    assert.strictEqual(list.statusList.length, 2);
    const subscribed = await a.presence.subscribe([bob.user.person_id]);
    assert.strictEqual(subscribed.responses[0].responseCode, 200);
    await b.presence.setStatus('dnd', 600);
    const update = await alice.inbox.wait(
      (data) => data.eventType === 'apheleia.subscription_update' && data.status === 'dnd', 'the new status');
    assert.strictEqual(update.subject, bob.user.person_id);
    await b.presence.setStatus('active', 600);
    await a.presence.unsubscribe([bob.user.person_id]);
    await a.presence.enable();
    assert.strictEqual(await a.presence.isEnabled(), true);
  });

  await step('people', async () => {
    assert.strictEqual((await a.user.get()).id, alice.user.person_id);
    assert.strictEqual((await alice.webex.people.get('me')).emails[0], alice.user.mail);
    const looked = await a.user.asUUID(bob.user.mail, {force: true});
    assert.strictEqual(looked, bob.user.person_id);
  });

  await step('the device is refreshed', () => a.device.refresh());

  for (const [code, reason] of [[1001, ''], [1011, 'on purpose'], [1000, 'idle'], [3050, 'done (forced)']]) {
    await step(`a socket that was closed with ${code} ${reason} comes back`, async () => {
      await interrupt(bob, code, reason);
      const text = `after the close with ${code}`;
      const after = await a.conversation.post(conversation, {displayName: text});
      const seen = await bob.inbox.activity((activity) => activity.id === after.id, 'the message after the close');
      assert.strictEqual(seen.object.displayName, text);
    });
  }
  await step('a socket that was replaced or ended for good stays away until it is asked for', async () => {
    for (const [code, event] of [[4000, 'offline.replaced'], [4401, 'offline.permanent'], [1000, 'offline.permanent']]) {
      const gone = new Promise((resolve) => b.mercury.once(event, resolve));
      await fault('mercury-close', {person: 'bob', value: code, text: 'on purpose'});
      await within(gone, `${event} after ${code}`);
      // The SDK tells it before it has put the old connection away, and would not open another yet.
      while (b.mercury.connected || b.mercury.connecting) await new Promise((resolve) => setTimeout(resolve, 10));
      await b.mercury.connect();
    }
    const after = await a.conversation.post(conversation, {displayName: 'back on request'});
    await bob.inbox.activity((activity) => activity.id === after.id, 'the message after the request');
  });
  await step('what was missed is brought again where redelivery is on', async () => {
    await control('/fault', {name: 'no-redelivery', on: false});
    await b.mercury.disconnect();
    const missed = await a.conversation.post(conversation, {displayName: 'while bob was away'});
    await b.mercury.connect();
    const seen = await bob.inbox.activity((activity) => activity.id === missed.id, 'what was missed');
    assert.strictEqual(seen.object.displayName, 'while bob was away');
    await control('/fault', {name: 'no-redelivery', on: true});
  });
  await step('a socket that is to be shut down is replaced by another', async () => {
    // Of a client that is not used any more after that. When the cloud closes the old socket, the SDK forgets the new one,
    // though it reads it on; for its next question to the key service it opens one more, which replaces that, and so on
    // for ever, and a cloud that brings nothing again loses what is on its way to each.
    const gina = await signIn(person('gina'));
    const pair = await a.conversation.create({participants: [gina.user.mail], comment: 'before the shutdown'});
    await gina.inbox.activity(({object}) => object.displayName === 'before the shutdown', 'the first message');
    // What is on its way to the old socket goes to the new one then.
    await control('/fault', {name: 'no-redelivery', on: false});
    const replaced = new Promise((resolve) => gina.sdk.mercury.once('event:mercury_shutdown_switchover_complete', resolve));
    const ended = new Promise((resolve) => gina.sdk.mercury.once('offline.replaced', resolve));
    await fault('mercury-shutdown', {person: 'gina'});
    const across = await a.conversation.post(pair, {displayName: 'across the shutdown'});
    await gina.inbox.activity(({id}) => id === across.id, 'the message across the shutdown');
    await within(Promise.all([replaced, ended]), 'the second socket');
    const after = await a.conversation.post(pair, {displayName: 'after the shutdown'});
    await gina.inbox.activity(({id}) => id === after.id, 'the message on the second socket');
    await control('/fault', {name: 'no-redelivery', on: true});
    await signOut(gina);
  });

  await step('a refused token is refreshed and the call repeated', async () => {
    const before = alice.webex.credentials.supertoken.access_token;
    await fault('unauthorized', {person: 'alice'});
    const after = await a.conversation.post(conversation, {displayName: 'after the refresh'});
    assert(after.id);
    assert.notStrictEqual(alice.webex.credentials.supertoken.access_token, before);
  });

  await step('an answer of the key service is lost and asked for again', async () => {
    if (!seed) await fault('kms-drop', {person: 'bob'});
    const group = await b.conversation.create({displayName: 'g', participants: [alice.user.mail, erin.mail]});
    assert(group.id);
  });

  await step('refusals come as they are', async () => {
    const errors = {};
    for (const status of [403, 404, 409, 429, 500, 502, 503]) {
      await fault(`list-${status}`, {person: 'bob', value: 7});
      const error = await refused(b.conversation.list({conversationsLimit: 1}));
      assert.strictEqual(error.statusCode, status, `${status} came as ${error}`);
      errors[status] = error;
    }
    assert.strictEqual(Number(errors[429].retryAfter), 7, 'Retry-After is told');
    await b.conversation.list({conversationsLimit: 1});
  });

  await step('a rotated key is said, and the conversation has another', async () => {
    for (const code of [1400087, 1409004]) {
      const before = await a.conversation.get({url: conversation.url});
      await fault(`post-rotate-${code}`, {person: 'alice'});
      // The SDK answers nothing here, and posts under the new key by itself.
      await a.conversation.post(before, {displayName: `rotated by ${code}`}).catch(() => {});
      const after = await a.conversation.get({url: conversation.url});
      assert.notStrictEqual(after.defaultActivityEncryptionKeyUrl, before.defaultActivityEncryptionKeyUrl);
      await a.conversation.post(after, {displayName: `after ${code}`});
      const seen = await bob.inbox.activity(({object}) => object.displayName === `after ${code}`, 'the new key');
      assert.strictEqual(seen.encryptionKeyUrl, after.defaultActivityEncryptionKeyUrl);
    }
    conversation = await a.conversation.get({url: conversation.url});
  });

  const carol = await step('carol signs in with a code', async () => {
    const ask = new URL(`${endpoints.cloud}/v1/authorize`);
    const query = {client_id: endpoints.client_id, response_type: 'code', redirect_uri: 'http://127.0.0.1/none', user: 'carol'};
    Object.entries(query).forEach(([name, value]) => ask.searchParams.set(name, value));
    const answer = await fetch(ask, {redirect: 'manual'});
    const code = new URL(answer.headers.get('location')).searchParams.get('code');
    return signIn(person('carol'), {code});
  });
  const c = carol.sdk;
  await step('a token is narrowed to what the key service needs', async () => {
    const narrow = await carol.webex.credentials.getUserToken('spark:kms');
    assert.strictEqual(narrow.scope, 'spark:kms');
    assert.notStrictEqual(narrow.access_token, carol.webex.credentials.supertoken.access_token);
  });

  await step('both make the same 1:1 at once', async () => {
    const [one, other] = await Promise.all([
      b.conversation.create({participants: [carol.user.mail]}),
      c.conversation.create({participants: [bob.user.mail]}),
    ]);
    assert.strictEqual(one.id, other.id);
    const posted = await c.conversation.post(one, {displayName: 'one of two'});
    const seen = await bob.inbox.activity((activity) => activity.id === posted.id, 'the message in the one');
    assert.strictEqual(seen.object.displayName, 'one of two');
  });

  await step('a stranger gets neither conversation nor key', async () => {
    const error = await refused(c.conversation.get({url: conversation.url}));
    assert.strictEqual(error.statusCode, 404);
    const denied = await refused(c.encryption.kms.fetchKey({uri: conversation.defaultActivityEncryptionKeyUrl}));
    assert.strictEqual(denied.status, 403, String(denied));
  });

  await step('who is added reads on, and who has left reads no more', async () => {
    const group = await a.conversation.create({displayName: 'g', participants: [bob.user.mail, erin.mail]});
    await a.conversation.add(group, carol.user.mail);
    const fresh = await a.conversation.get({url: group.url});
    const posted = await a.conversation.post(fresh, {displayName: 'welcome'});
    const seen = await carol.inbox.activity((activity) => activity.id === posted.id, 'the welcome');
    assert.strictEqual(seen.object.displayName, 'welcome');
    await c.conversation.leave(group);
    const error = await refused(c.conversation.get({url: group.url}));
    assert.strictEqual(error.statusCode, 404);
    const later = await a.conversation.post(fresh, {displayName: 'without carol'});
    await bob.inbox.activity((activity) => activity.id === later.id, 'what carol must not see');
    assert(!carol.inbox.events.some(({activity}) => activity?.id === later.id));
  });

  await step('a long conversation is paged through', async () => {
    const posts = [];
    for (let n = 0; n < 25; n += 1) {
      posts.push((await a.conversation.post(conversation, {displayName: `page ${n}`})).id);
    }
    await bob.inbox.activity((activity) => activity.id === posts[24], 'the last of the pages');
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const found = [];
    let page = await b.conversation.listActivities({conversationUrl: conversation.url, limit: 10, lastActivityFirst: true});
    for (;;) {
      const items = page.items || page;
      found.unshift(...items.filter((item) => posts.includes(item.id)).map((item) => item.id));
      if (found.length >= posts.length || items.length === 0) break;
      const maxDate = Math.min(...items.map((item) => Date.parse(item.published))) - 1;
      page = await b.conversation.listActivities({conversationUrl: conversation.url, limit: 10, lastActivityFirst: true, maxDate});
    }
    assert.deepStrictEqual(found, posts);
  });

  await step('a large file comes whole', async () => {
    const bytes = Buffer.alloc(3 * 1024 * 1024, 'The quick brown fox. ');
    const file = Object.assign(bytes, {name: 'l.bin', displayName: 'l.bin', mimeType: 'application/octet-stream'});
    const share = a.conversation.makeShare(conversation);
    await share.add(file);
    const shared = await a.conversation.share(conversation, share);
    const seen = await bob.inbox.activity((activity) => activity.id === shared.id, 'the large file');
    const fetched = Buffer.from(await b.conversation.download(seen.object.files.items[0]));
    assert(fetched.equals(bytes));
  });

  const heidi = await step("heidi signs in: another organization, with a key service of its own", () => signIn(person('heidi')));
  await step('both key services hand out keys of the other', async () => {
    const group = await heidi.sdk.conversation.create({displayName: 'h', participants: [alice.user.mail, bob.user.mail]});
    assert.match(group.defaultActivityEncryptionKeyUrl, /^kms:\/\/kms\.corp\.example\//);
    const posted = await heidi.sdk.conversation.post(group, {displayName: 'from elsewhere'});
    const seen = await alice.inbox.activity((activity) => activity.id === posted.id, 'the message from elsewhere');
    assert.strictEqual(seen.object.displayName, 'from elsewhere');
    await fault('kms-moved', {person: 'bob'});
    const moved = await bob.inbox.activity((activity) => activity.id === posted.id, 'the message under a moved key');
    assert.strictEqual(moved.object.displayName, 'from elsewhere');
    await control('/fault', {name: 'kms-moved', on: false});
    const back = await a.conversation.post(group, {displayName: 'and back'});
    const read = await heidi.inbox.activity((activity) => activity.id === back.id, 'the answer');
    assert.strictEqual(read.object.displayName, 'and back');
  });
  await step('a key that was revoked opens nothing', async () => {
    // Before there is a title to open: what the SDK has fetched once it keeps.
    await control('/fault', {name: 'kms-revoked', on: true, person: 'carol'});
    const group = await heidi.sdk.conversation.create({displayName: 'r', participants: [alice.user.mail, carol.user.mail]});
    const posted = await heidi.sdk.conversation.post(group, {displayName: 'for keys that live'});
    const seen = await carol.inbox.activity((activity) => activity.id === posted.id, 'the message without a key');
    assert.notStrictEqual(seen.object.displayName, 'for keys that live');
    await control('/fault', {name: 'kms-revoked', on: false});
  });

  await step('a status ends by itself', async () => {
    await a.presence.subscribe([bob.user.person_id]);
    await b.presence.setStatus('dnd', 60);
    await alice.inbox.wait(
      (data) => data.status === 'dnd' && data.expiresTTL > 0 && data.expiresTTL <= 60, 'the short status');
    const before = alice.inbox.events.length;
    await control('/clock', {advance_ms: 61_000});
    await alice.inbox.wait((data) =>
      alice.inbox.events.indexOf(data) >= before && data.subject === bob.user.person_id && data.status === 'active',
    'the end of it');
    await a.presence.unsubscribe([bob.user.person_id]);
  });

  await step('a toggle is set, and told to the other device', async () => {
    const changed = new Promise((resolve) => b.mercury.once('event:featureToggle_update', resolve));
    await b.feature.setFeature('developer', 'some-toggle', true);
    await within(changed, 'the toggle');
    assert.strictEqual(await b.feature.getFeature('developer', 'some-toggle'), true);
  });

  await step('too many devices: the SDK makes room by itself', async () => {
    const others = [];
    for (let n = 0; n < 11; n += 1) others.push((await signIn(person('dave'))).webex.internal.device.url);
    assert.strictEqual(new Set(others).size, 11);
  });

  await step('a device that is gone is registered anew', async () => {
    const before = c.device.url;
    // A socket that ends with its device would be opened again at the old address, for ever, whatever is asked for meanwhile.
    await c.mercury.disconnect();
    await fault('device-gone', {person: 'carol'});
    await c.device.refresh();
    assert.notStrictEqual(c.device.url, before);
    await c.mercury.connect();
  });

  await step('a token that is revoked is refused', async () => {
    const before = carol.webex.credentials.supertoken.access_token;
    await c.mercury.disconnect();
    await carol.webex.credentials.supertoken.revoke();
    const answer = await fetch(`${endpoints.cloud}/conversation/api/v1/users`, {headers: {authorization: `Bearer ${before}`}});
    assert.strictEqual(answer.status, 401);
  });

  if (seed) await step('every nuisance has struck', () => annoyed(alice, conversation, bob));
  await step('all sign out', async () => {
    for (const client of [alice, bob, heidi]) await signOut(client);
  });
});
