// The client role, by node-kms: each line asks for one step, each answer is what came of it.
//
//   {step: "start", cluster, key, ephemeral}  -> {message}   the exchange, sealed to the static key
//   {step: "agreed", reply}                   -> {uri}       the signed answer, and the derivation
//   {step: "ask", body}                       -> {message}   any request, sealed with the ephemeral key
//   {step: "answered", reply}                 -> {body}      the opened answer
//   {step: "seal", key, text}                 -> {jwe}       a text of a conversation
//   {step: "open", key, jwe}                  -> {text}
'use strict';
const jose = require('node-jose');
const KMS = require('node-kms');

const context = new KMS.Context();

const steps = {
  async start({cluster, key, asker}) {
    context.clientInfo = asker;
    context.serverInfo = {key};
    context.ephemeralKey = await context.createECDHKey();
    const {kty, crv, x, y, kid} = context.ephemeralKey.jwk;
    const request = new KMS.Request({method: 'create', uri: `${cluster}/ecdhe`, jwk: {kty, crv, x, y, kid}});
    return {message: await request.wrap(context, {serverKey: true})};
  },

  async agreed({reply}) {
    const answer = await new KMS.Response(reply).unwrap(context);
    context.ephemeralKey = await context.deriveEphemeralKey(answer.key);
    return {uri: context.ephemeralKey.uri, status: answer.status, expires: context.ephemeralKey.expirationDate};
  },

  async ask({body}) {
    const request = new KMS.Request(body);
    return {message: await request.wrap(context), requestId: request.requestId};
  },

  async answered({reply}) {
    return {body: await new KMS.Response(reply).unwrap(context)};
  },

  async seal({key, text}) {
    const jwk = await KMS.KeyObject.fromObject(key).asKey();
    const options = {format: 'compact', contentAlg: 'A256GCM', fields: {alg: 'dir'}};
    const recipient = {key: jwk, header: {alg: 'dir'}, reference: null};
    return {jwe: await jose.JWE.createEncrypt(options, recipient).final(text, 'utf8')};
  },

  async open({key, jwe}) {
    const jwk = await KMS.KeyObject.fromObject(key).asKey();
    return {text: (await jose.JWE.createDecrypt(jwk).decrypt(jwe)).plaintext.toString('utf8')};
  },
};

require('./lines')(({step, ...rest}) => steps[step](rest));
