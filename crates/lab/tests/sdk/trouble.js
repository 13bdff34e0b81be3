// The official Webex SDK, unmodified, and what does not go smoothly: a person with two devices, sockets that are refused before
// they are ready, events that are lost, keys that end, a clock that is wrong, and what the key service refuses a conversation.
//
//     node trouble.js ENDPOINTS_FILE
'use strict';

const {
  assert, endpoints, person, within, signIn, signOut, control, fault, refused, step, play,
} = require('./sdk');

/** What a conversation has since a moment, oldest first, opened, once everything wanted is in it. */
async function listed(sdk, conversation, sinceDate, wanted) {
  for (;;) {
    const page = await sdk.conversation.listActivities(
      {conversationUrl: conversation.url, sinceDate, lastActivityFirst: false, limit: 50});
    const found = (page.items || page).map(({object}) => object?.displayName).filter(Boolean);
    if (wanted.every((text) => found.includes(text))) return found;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

play(async () => {
  const alice = await step('alice signs in', () => signIn(person('alice'), {refreshable: true}));
  const bob = await step('bob signs in', () => signIn(person('bob'), {refreshable: true}));
  const [a, b] = [alice.sdk, bob.sdk];
  const is = (text) => ({object}) => object?.displayName === text;
  const conversation = await step('they have a 1:1', () =>
    a.conversation.create({participants: [bob.user.mail], comment: 'hello'}));

  await step('a second device of one person brings the same, and is asked nothing of the first', async () => {
    const second = await signIn(person('bob'));
    assert.notStrictEqual(second.sdk.device.url, b.device.url);
    await a.conversation.post(conversation, {displayName: 'for two devices'});
    for (const device of [bob, second]) await device.inbox.activity(is('for two devices'), 'the message on both');
    const own = await b.conversation.post(conversation, {displayName: 'from the first'});
    await second.inbox.activity(is('from the first'), 'what the first wrote');
    await second.sdk.conversation.acknowledge(conversation, own);
    const read = await bob.inbox.activity(({verb, object}) => verb === 'acknowledge' && object.id === own.id, 'the mark');
    assert.strictEqual(read.actor.id, bob.user.person_id);
    const answers = ({inbox}) => inbox.events.filter(({eventType}) => eventType === 'encryption.kms_message').length;
    const before = [answers(bob), answers(second)];
    await b.encryption.kms.createUnboundKeys({count: 1});
    assert.deepStrictEqual([answers(bob), answers(second)], [before[0] + 1, before[1]], 'only who asked is answered');
    await signOut(second);
    await a.conversation.post(conversation, {displayName: 'for one device'});
    await bob.inbox.activity(is('for one device'), 'the message on the one that is left');
  });

  await step('an entitlement is told, and told anew', async () => {
    const entitled = ({sdk}) => sdk.feature.getFeature('entitlement', 'spark-hybrid-impinterop');
    const dave = await signIn(person('dave'));
    assert.deepStrictEqual([await entitled(alice), await entitled(dave)], [true, false]);
    await control('/user', {name: 'dave', enabled: true});
    await dave.sdk.device.refresh();
    assert.strictEqual(await entitled(dave), true);
    await control('/user', {name: 'dave', enabled: false});
    await signOut(dave);
  });

  for (const code of [1001, 1005, 1008, 1011, 4404]) {
    await step(`a socket that is closed with ${code} before it is ready is opened again`, async () => {
      await b.mercury.disconnect();
      await fault('mercury-reject', {person: 'bob', value: code});
      await b.mercury.connect();
      await a.conversation.post(conversation, {displayName: `after ${code}`});
      await bob.inbox.activity(is(`after ${code}`), 'the message');
    });
  }
  await step('one that is closed with 4401 is opened again with another token', async () => {
    const before = bob.webex.credentials.supertoken.access_token;
    await b.mercury.disconnect();
    await fault('mercury-reject', {person: 'bob', value: 4401});
    await b.mercury.connect();
    assert.notStrictEqual(bob.webex.credentials.supertoken.access_token, before);
  });
  await step('one that is closed with 4400 or 4403 is given up', async () => {
    for (const code of [4400, 4403]) {
      await b.mercury.disconnect();
      await fault('mercury-reject', {person: 'bob', value: code});
      await refused(b.mercury.connect());
      await b.mercury.connect();
    }
  });
  await step('one whose upgrade is refused is opened again', async () => {
    await b.mercury.disconnect();
    await fault('mercury-refuse', {person: 'bob'});
    await b.mercury.connect();
    await a.conversation.post(conversation, {displayName: 'after all that'});
    await bob.inbox.activity(is('after all that'), 'the message');
  });

  await step('an event that was lost shows as a gap, and is read from a listing since the one before', async () => {
    const last = await a.conversation.post(conversation, {displayName: 'before the gap'});
    await bob.inbox.activity(({id}) => id === last.id, 'the last before the gap');
    const gap = new Promise((resolve) => b.mercury.once('sequence-mismatch', resolve));
    await fault('mercury-lose', {person: 'bob'});
    await a.conversation.post(conversation, {displayName: 'lost'});
    await a.conversation.post(conversation, {displayName: 'after the gap'});
    await bob.inbox.activity(is('after the gap'), 'the message after the gap');
    await within(gap, 'the gap');
    assert(!bob.inbox.texts().includes('lost'));
    const since = Date.parse(last.published) + 1;
    assert.deepStrictEqual(await listed(b, conversation, since, ['lost', 'after the gap']), ['lost', 'after the gap']);
  });
  await step('one that was lost without a gap is in the listing as well', async () => {
    let gaps = 0;
    b.mercury.on('sequence-mismatch', () => { gaps += 1; });
    await fault('mercury-lose-silently', {person: 'bob'});
    const lost = await a.conversation.post(conversation, {displayName: 'lost silently'});
    await a.conversation.post(conversation, {displayName: 'after nothing'});
    await bob.inbox.activity(is('after nothing'), 'the message after it');
    assert.deepStrictEqual([gaps, bob.inbox.texts().includes('lost silently')], [0, false]);
    const found = await listed(b, conversation, Date.parse(lost.published), ['lost silently', 'after nothing']);
    assert.deepStrictEqual(found, ['lost silently', 'after nothing']);
  });
  await step('conversations are listed since a date', async () => {
    const quiet = await a.conversation.create({displayName: 'quiet', participants: [bob.user.mail, person('erin').mail]});
    await new Promise((resolve) => setTimeout(resolve, 5));
    const moved = await a.conversation.post(conversation, {displayName: 'it moved'});
    const since = Date.parse(moved.published);
    for (;;) {
      const list = await b.conversation.list({sinceDate: since, conversationsLimit: 50});
      const ids = (list.items || list).map(({id}) => id);
      assert(!ids.includes(quiet.id), 'nothing happened there since');
      if (ids.includes(conversation.id)) break;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  });

  let group;
  await step('a key whose end has come seals no more, and opens still', async () => {
    await fault('kms-short-lived', {person: 'alice', value: 30_000});
    group = await a.conversation.create({displayName: 'for a while', participants: [bob.user.mail, person('erin').mail]});
    await a.conversation.post(group, {displayName: 'under the old key'});
    await control('/clock', {advance_ms: 31_000});
    await a.conversation.post(group, {displayName: 'after its end'});
    const fresh = await a.conversation.get({url: group.url});
    assert.notStrictEqual(fresh.defaultActivityEncryptionKeyUrl, group.defaultActivityEncryptionKeyUrl);
    const posted = await a.conversation.post(fresh, {displayName: 'under the new key'});
    assert.strictEqual(posted.encryptionKeyUrl, fresh.defaultActivityEncryptionKeyUrl);
    const erin = await signIn(person('erin'));
    const found = await listed(erin.sdk, group, 0, ['under the old key', 'under the new key']);
    assert.strictEqual(found.filter((text) => text === 'under the old key').length, 1);
    await signOut(erin);
    group = fresh;
  });

  await step('a key of another conversation is refused, and the right one is taken', async () => {
    const foreign = group.defaultActivityEncryptionKeyUrl;
    const raw = await fetch(`${conversation.url}/activities`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${alice.webex.credentials.supertoken.access_token}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({verb: 'post', object: {objectType: 'comment'}, encryptionKeyUrl: foreign}),
    });
    assert.deepStrictEqual([raw.status, (await raw.json()).errorCode], [400, 1400049]);
    // The SDK asks for the conversation, and posts again by itself.
    await a.conversation.post({...conversation, defaultActivityEncryptionKeyUrl: foreign}, {displayName: 'under the right key'});
    const seen = await bob.inbox.activity(is('under the right key'), 'what was posted again');
    assert.notStrictEqual(seen.encryptionKeyUrl, foreign);
  });

  await step('what the key service refuses a conversation comes opened', async () => {
    await fault('post-kms-refused', {person: 'alice'});
    const error = await refused(a.conversation.add(group, person('carol').mail));
    assert.strictEqual(error.constructor.name, 'DryError');
    assert.match(error.message, /403/);
    const after = await a.conversation.get({url: group.url}, {includeParticipants: true});
    assert(!after.participants.items.some(({id}) => id === person('carol').person_id), 'nobody was added');
  });

  // An ephemeral key lives for an hour. A client whose own clock is later than its end drops it at once, for ever.
  for (const minutes of [120, -30]) {
    await step(`the cloud's clock is ahead by ${minutes} minutes`, async () => {
      await control('/fault', {name: 'clock-skew', on: true, value: minutes * 60_000});
      const erin = await signIn(person('erin'));
      const posted = await a.conversation.post(group, {displayName: `ahead by ${minutes}`});
      const ahead = (Date.parse(posted.published) - Date.now()) / 60_000;
      assert(Math.abs(ahead - minutes) < 5, `${ahead}`);
      for (const client of [bob, erin]) await client.inbox.activity(is(`ahead by ${minutes}`), 'the message');
      await erin.sdk.conversation.post(group, {displayName: `back at ${minutes}`});
      await alice.inbox.activity(is(`back at ${minutes}`), 'the answer');
      await signOut(erin);
      await control('/fault', {name: 'clock-skew', on: false});
    });
  }

  await step('all sign out', async () => {
    for (const client of [alice, bob]) await signOut(client);
  });
});
