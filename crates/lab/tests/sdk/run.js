// The official Webex SDK, unmodified, against the lab's cloud. Two people sign in, talk, read, edit and delete, share a
// file, make a group, look at each other's presence, lose a socket and a token, and sign out.
//
//     npm ci --legacy-peer-deps --ignore-scripts
//     node run.js ENDPOINTS_FILE
//
// Without --legacy-peer-deps the SDK's own lock does not install. The file is what the lab writes with --endpoints; with --tls,
// NODE_EXTRA_CA_CERTS must name its `ca`. Exit status 0 only if every step passed; one line is printed a step.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');

const endpoints = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
// Otherwise the SDK logs keys and tokens.
process.env.NODE_ENV = 'production';
process.env.U2C_SERVICE_URL = `${endpoints.cloud}/u2c/api/v1`;

const WebexCore = require('@webex/webex-core').default;
for (const plugin of [
  'plugin-logger',
  'plugin-authorization-node',
  'internal-plugin-conversation',
  'internal-plugin-presence',
  'plugin-people',
]) {
  require(`@webex/${plugin}`);
}

const PATIENCE = 30_000;
const unhandled = [];
process.on('unhandledRejection', (error) => unhandled.push(error));

function person(name) {
  const found = endpoints.users.find((user) => user.name === name);
  assert(found, `there is nobody called ${name}`);
  return found;
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not in time`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Collects what an SDK's socket brings, already opened by the SDK, and lets a step wait for one thing. */
class Inbox {
  constructor(webex) {
    this.events = [];
    this.waiting = [];
    webex.internal.mercury.on('event', ({data}) => this.add(data));
  }

  add(data) {
    this.events.push(data);
    this.waiting = this.waiting.filter(({wanted, resolve}) => !wanted(data) || resolve(data));
  }

  wait(wanted, what) {
    const found = this.events.find(wanted);
    if (found) return Promise.resolve(found);
    return within(new Promise((resolve) => this.waiting.push({wanted, resolve})), what);
  }

  activity(wanted, what) {
    const isIt = (data) => data.eventType === 'conversation.activity' && wanted(data.activity);
    return this.wait(isIt, what).then((data) => data.activity);
  }
}

async function signIn(user, refreshable) {
  const supertoken = {access_token: user.access_token, token_type: 'Bearer', expires_in: 86_400};
  const config = {logger: {level: process.env.LAB_SDK_LOG || 'silent'}};
  if (refreshable) {
    supertoken.refresh_token = user.refresh_token;
    config.credentials = {
      client_id: endpoints.client_id,
      client_secret: endpoints.client_secret,
      redirect_uri: 'http://127.0.0.1/none',
    };
  }
  const webex = new WebexCore({credentials: {supertoken}, config});
  await within(new Promise((resolve) => webex.once('ready', resolve)), 'ready');
  await webex.internal.device.register();
  await webex.internal.mercury.connect();
  return {user, webex, inbox: new Inbox(webex)};
}

async function control(path, body) {
  const response = await fetch(`${endpoints.control}${path}`, {method: 'POST', body: JSON.stringify(body)});
  assert.strictEqual(response.status, 200, await response.text());
}

let passed = 0;
async function step(name, work) {
  const start = Date.now();
  try {
    const result = await within(work(), name);
    passed += 1;
    console.log(`ok   ${name} (${Date.now() - start} ms)`);
    return result;
  } catch (error) {
    console.log(`FAIL ${name}: ${error.stack || error}`);
    throw error;
  }
}

async function main() {
  const alice = await step('alice signs in', () => signIn(person('alice'), true));
  const bob = await step('bob signs in', () => signIn(person('bob'), false));
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

  await step('a closed socket comes back', async () => {
    const back = new Promise((resolve) => bob.webex.internal.mercury.once('online', resolve));
    await control('/fault', {name: 'mercury-close', on: true, count: 1, person: 'bob', value: 1001});
    await within(back, 'the socket');
    const after = await a.conversation.post(conversation, {displayName: 'after the close'});
    const seen = await bob.inbox.activity((activity) => activity.id === after.id, 'the message after the close');
    assert.strictEqual(seen.object.displayName, 'after the close');
  });

  await step('a refused token is refreshed and the call repeated', async () => {
    const before = alice.webex.credentials.supertoken.access_token;
    await control('/fault', {name: 'unauthorized', on: true, count: 1, person: 'alice'});
    const after = await a.conversation.post(conversation, {displayName: 'after the refresh'});
    assert(after.id);
    assert.notStrictEqual(alice.webex.credentials.supertoken.access_token, before);
  });

  await step('an answer of the key service is lost and asked for again', async () => {
    await control('/fault', {name: 'kms-drop', on: true, count: 1, person: 'bob'});
    const group = await b.conversation.create({displayName: 'g', participants: [alice.user.mail, erin.mail]});
    assert(group.id);
  });

  await step('both sign out', async () => {
    for (const sdk of [a, b]) {
      await sdk.mercury.disconnect();
      await sdk.device.unregister();
    }
  });

  // The SDK itself leaves the promise of a key service that was silent once rejected, though it asks again.
  const left = unhandled.filter((error) => error.name !== 'KmsTimeoutError');
  assert.deepStrictEqual(left.map(String), [], 'no promise was left rejected');
  console.log(`${passed} steps passed`);
}

main().then(
  () => process.exit(0),
  (error) => {
    if (unhandled.length > 0) console.log('unhandled:', unhandled);
    console.error(String(error));
    process.exit(1);
  },
);
