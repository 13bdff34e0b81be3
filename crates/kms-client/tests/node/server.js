// The KMS role, by node-jose. The first line is {pkcs8, kid}: the static key in base64. Each further line is
// {message} and is answered by {reply}.
'use strict';
const crypto = require('node:crypto');
const jose = require('node-jose');

const contexts = new Map();
const keys = new Map();
let staticKey;
let cluster;

async function open(message) {
  const {kid, alg} = JSON.parse(Buffer.from(message.split('.')[0], 'base64url'));
  const key = alg === 'RSA-OAEP' ? staticKey : contexts.get(kid);
  const {plaintext} = await jose.JWE.createDecrypt(key).decrypt(message);
  return {kid, key, body: JSON.parse(plaintext.toString('utf8'))};
}

async function agree({requestId, jwk, client}) {
  const ours = await jose.JWK.createKey('EC', 'P-256', {});
  const theirs = await jose.JWK.asKey(jwk);
  const derived = await jose.JWA.derive('ECDH-HKDF', ours.toObject(true), {public: theirs.toObject()});
  const uri = `${cluster}/ecdhe/${crypto.randomUUID()}`;
  const shared = {kty: 'oct', kid: uri, alg: 'A256GCM', k: jose.util.base64url.encode(derived)};
  contexts.set(uri, await jose.JWK.asKey(shared));
  const {kty, crv, x, y} = ours.toJSON();
  const answer = {
    status: 201,
    requestId,
    key: {
      uri,
      jwk: {kty, crv, x, y},
      userId: client.credential.userId,
      clientId: client.clientId,
      createDate: new Date(),
      expirationDate: new Date(Date.now() + 3600000),
    },
  };
  return jose.JWS.createSign({format: 'compact', alg: 'RS256'}, staticKey).final(JSON.stringify(answer), 'utf8');
}

function answer({method, uri, count, userIds, keyUris, resourceUri}) {
  switch (`${method} ${uri.replace(/^kms:\/\/[^/]+/, '').replace(/\/[0-9a-f-]{36}/, '/*')}`) {
    case 'create /keys': {
      const made = Array.from({length: count}, () => {
        const id = crypto.randomUUID();
        const jwk = {kty: 'oct', kid: id, k: crypto.randomBytes(32).toString('base64url')};
        const key = {uri: `${cluster}/keys/${id}`, jwk, createDate: new Date()};
        keys.set(key.uri, key);
        return key;
      });
      return {status: 201, keys: made};
    }
    case 'retrieve /keys/*':
      return keys.has(uri) ? {status: 200, key: keys.get(uri)} : {status: 404, reason: 'no such key'};
    case 'update /keys/*':
      return {status: 200, key: {...keys.get(uri), resourceUri, bindDate: new Date()}};
    case 'create /resources': {
      const resource = `${cluster}/resources/${crypto.randomUUID()}`;
      const authorizationUris = userIds.map((id) => `${cluster}/authorizations/${id}`);
      return {status: 201, resource: {uri: resource, keyUris, authorizationUris}};
    }
    case 'create /authorizations':
      return {
        status: 201,
        authorizations: userIds.map((authId) => ({uri: `${cluster}/authorizations/${authId}`, authId, resourceUri})),
      };
    case 'update /ping':
      return {status: 200};
    default:
      return {status: 405, reason: `${method} ${uri}`};
  }
}

require('./lines')(async (line) => {
  if (!staticKey) {
    const key = crypto.createPrivateKey({key: Buffer.from(line.pkcs8, 'base64'), format: 'der', type: 'pkcs8'});
    staticKey = await jose.JWK.asKey({...key.export({format: 'jwk'}), kid: line.kid});
    cluster = line.kid.replace(/\/[^/]*$/, '');
    return {ready: true};
  }
  const {kid, key, body} = await open(line.message);
  if (key === staticKey) return {reply: await agree(body)};
  const options = {format: 'compact', contentAlg: 'A256GCM', fields: {alg: 'dir', kid}};
  const text = JSON.stringify({requestId: body.requestId, ...answer(body)});
  return {reply: await jose.JWE.createEncrypt(options, key).final(text, 'utf8')};
});
