// What the scenes share: the official Webex SDK, unmodified, pointed at a lab, and steps that are told as they pass.
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

const PATIENCE = 90_000;
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

/** Collects events, and lets a step wait for one of them, also for one that came already. */
class Inbox {
  constructor() {
    this.events = [];
    this.waiting = [];
  }

  add(event) {
    this.events.push(event);
    this.waiting = this.waiting.filter(({wanted, resolve}) => !wanted(event) || resolve(event));
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

  /** The texts of all messages so far, in the order in which they came, opened by the SDK. */
  texts() {
    return this.events
      .filter((data) => data.eventType === 'conversation.activity' && data.activity.verb === 'post')
      .map((data) => data.activity.object.displayName);
  }
}

/** An SDK client of a person, with a device and a socket. */
async function signIn(user, {refreshable = false, code, impatient = false} = {}) {
  const oauth = {
    client_id: endpoints.client_id,
    client_secret: endpoints.client_secret,
    redirect_uri: 'http://127.0.0.1/none',
    scope: 'spark:all spark:kms',
  };
  const config = {logger: {level: process.env.LAB_SDK_LOG || 'silent'}};
  // A key service that loses answers is asked again sooner than after the usual six seconds.
  if (impatient) config.encryption = {kmsInitialTimeout: 500};
  const credentials = {};
  if (refreshable || code) config.credentials = oauth;
  if (!code) {
    credentials.supertoken = {access_token: user.access_token, token_type: 'Bearer', expires_in: 86_400};
    if (refreshable) credentials.supertoken.refresh_token = user.refresh_token;
  }
  const webex = new WebexCore({credentials, config});
  await within(new Promise((resolve) => webex.once('ready', resolve)), 'ready');
  if (code) await webex.authorization.requestAuthorizationCodeGrant({code});
  await webex.internal.device.register();
  await webex.internal.mercury.connect();
  const inbox = new Inbox();
  webex.internal.mercury.on('event', ({data}) => inbox.add(data));
  return {user, webex, inbox, sdk: webex.internal};
}

async function signOut({sdk}) {
  await sdk.mercury.disconnect();
  await sdk.device.unregister();
}

async function control(path, body) {
  const options = body && {method: 'POST', body: JSON.stringify(body)};
  const response = await fetch(`${endpoints.control}${path}`, options);
  const text = await response.text();
  assert.strictEqual(response.status, 200, text);
  return JSON.parse(text);
}

const fault = (name, more = {}) => control('/fault', {name, on: true, count: 1, ...more});

/**
 * Closes a client's socket with this code and reason, and waits until it is back. Where others act for the same person, each
 * has a socket, and all of them must be counted, or it could be another's that is closed.
 */
async function interrupt({user, sdk}, value, text, count = 1) {
  const back = new Promise((resolve) => sdk.mercury.once('online', resolve));
  await fault('mercury-close', {person: user.name, value, text, count});
  await within(back, `the socket after ${value}`);
}

async function refused(promise) {
  const error = await promise.then(() => undefined, (rejection) => rejection);
  assert(error, 'it was to be refused');
  return error;
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

/** Plays a scene, and ends the process with what came of it. */
function play(scene) {
  scene().then(
    () => {
      // The SDK itself leaves promises rejected: of a key service that was silent, though it asks again; of one that
      // refuses, though it tells whoever asked; of a connection that it was told to give up; and of the ping, due every
      // fifteen seconds, on a socket that is just being closed.
      const known = ({name, message}) =>
        name === 'KmsTimeoutError' || name === 'KmsError' || message?.startsWith('Mercury Connection Aborted')
        || message === 'INVALID_STATE_ERROR';
      const left = unhandled.filter((error) => !known(error));
      assert.deepStrictEqual(left.map(String), [], 'no promise was left rejected');
      console.log(`${passed} steps passed`);
    },
  ).then(
    () => process.exit(0),
    (error) => {
      if (unhandled.length > 0) console.log('unhandled:', unhandled);
      console.error(String(error));
      process.exit(1);
    },
  );
}

module.exports = {
  assert, endpoints, person, within, Inbox, signIn, signOut, control, fault, interrupt, refused, step, play,
};
