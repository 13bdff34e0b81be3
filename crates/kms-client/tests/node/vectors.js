// Makes ../data/vectors.json: values of ours that others can check themselves against, computed by node-jose and by
// Node's own crypto, so by nothing of this crate. Run it with `node vectors.js` after `npm ci --ignore-scripts`.
// All inputs are fixed and the result must never change.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const jose = require('node-jose');

const b64 = (bytes) => Buffer.from(bytes).toString('base64url');
const bytes = (seed, n) => crypto.hkdfSync('sha256', seed, '', 'kms-client test vector', n);

async function direct(name, header, text) {
  const k = Buffer.from(bytes(`key ${name}`, 32));
  const iv = Buffer.from(bytes(`iv ${name}`, 12));
  const key = await jose.JWK.asKey({kty: 'oct', alg: 'A256GCM', k: b64(k)});
  const jwe = await jose.JWE.createEncrypt(
    {format: 'compact', contentAlg: 'A256GCM', protect: '*', fields: header, iv, reference: false},
    key,
  ).update(Buffer.from(text)).final();
  return {name, k: b64(k), iv: b64(iv), text: b64(Buffer.from(text)), jwe};
}

// The header bytes are part of the result, and node-jose orders its members as it likes: so this is the format by hand.
function exact(name, header, text) {
  const k = Buffer.from(bytes(`key ${name}`, 32));
  const iv = Buffer.from(bytes(`iv ${name}`, 12));
  const protect = b64(header);
  const cipher = crypto.createCipheriv('aes-256-gcm', k, iv);
  cipher.setAAD(Buffer.from(protect));
  const sealed = Buffer.concat([cipher.update(text), cipher.final()]);
  const jwe = [protect, '', b64(iv), b64(sealed), b64(cipher.getAuthTag())].join('.');
  return {name, k: b64(k), iv: b64(iv), text: b64(Buffer.from(text)), jwe};
}

function wrapped(name, text) {
  const kek = Buffer.from(bytes(`kek ${name}`, 32));
  const inner = exact(name, '{"alg":"A256KW","enc":"A256GCM"}', text);
  const wrap = crypto.createCipheriv('id-aes256-wrap', kek, Buffer.alloc(8, 0xa6));
  const encrypted = Buffer.concat([wrap.update(Buffer.from(inner.k, 'base64url')), wrap.final()]);
  const parts = inner.jwe.split('.');
  parts[1] = b64(encrypted);
  return {name, k: b64(kek), text: inner.text, jwe: parts.join('.')};
}

function point(seed) {
  const ecdh = crypto.createECDH('prime256v1');
  ecdh.setPrivateKey(Buffer.from(bytes(seed, 32)));
  return ecdh;
}

async function main() {
  const content = '{"enc":"A256GCM","alg":"dir"}';
  const kid = 'kms://kms.example/ecdhe/0f5c1c0a-6f2d-4b83-9c3e-2f9a51d0a6b1';
  const message = `{"enc":"A256GCM","alg":"dir","kid":"${kid}"}`;
  const ours = point('ours');
  const theirs = point('theirs');
  const z = ours.computeSecret(theirs.getPublicKey());
  const ec = theirs.getPublicKey();
  const jwk = {kty: 'EC', crv: 'P-256', x: b64(ec.subarray(1, 33)), y: b64(ec.subarray(33))};
  const vectors = {
    note: 'Made by tests/node/vectors.js with node-jose and node:crypto; never changed.',
    seal: [
      exact('empty', content, ''),
      exact('ascii', content, 'Hello Bob'),
      exact('unicode', content, 'Grüße, 世界 👋'),
      exact('long', content, 'x'.repeat(1000)),
    ],
    seal_for: [{kid, ...exact('message', message, '{"status":200,"requestId":"r"}')}],
    open: [
      await direct('node-jose', {}, 'sealed by node-jose'),
      await direct('node-jose with kid', {kid: 'any'}, 'a kid is tolerated'),
      wrapped('key wrap', 'sealed under a wrapped key'),
    ],
    derive: [{z: b64(z), key: b64(crypto.hkdfSync('sha256', z, Buffer.alloc(32), '', 32))}],
    thumbprint: [
      {jwk, sha256: b64(await (await jose.JWK.asKey(jwk)).thumbprint('SHA-256'))},
    ],
  };
  fs.writeFileSync(path.join(__dirname, '../data/vectors.json'), `${JSON.stringify(vectors, null, 1)}\n`);
}

main();
