// A real OAuth 2.0 authorization server (oidc-provider) with the paths of SAP's XSUAA. Its access
// tokens are JWTs signed with RS256.
//
//     node oauth_server.mjs CONFIG
//
// CONFIG is a JSON file:
//     issuer    the server's name
//     jwks      the private key, as a JSON Web Key Set
//     clients   a list of
//         client_id, client_secret, token_endpoint_auth_method (client_secret_post by default);
//         for tls_client_auth, in place of client_secret: tls_client_auth_subject_dn, a line of
//         the certificate's subject, and tls_client_certificate_bound_access_tokens
//         audience    the "aud" of its tokens, a URI
//         lifetime    the lifetime of its tokens, in seconds
//         age         the age of a token at its issue, in seconds; 0 by default
//         rotates     true: a refresh token works only once; false by default
// Clients are read from the file for each request, so they may change while the server runs.
//
// Prints the free port of 127.0.0.1 on which it listens, and ends with its standard input.
//
// The server has no pages on which people log in. Instead, each line of the input is a JSON object
// that describes what to issue to one of them, and the value is printed:
//     model       RefreshToken or AuthorizationCode
//     value       the text that the client will send
//     client_id, tenant, user
//     lifetime    in seconds
//     scope
//     redirectUri, codeChallenge    optional; a code is bound to them
//
// The front of the server adds headers to a request for a token:
//     x-tenant               the tenant to which the request belongs
//     x-issuer               the "iss" of the token
//     x-claims               the token's other claims, as JSON
//     x-client-certificate   the certificate that the TLS client has shown, verified; base64

import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';
import MemoryAdapter, { setStorage } from 'oidc-provider/lib/adapters/memory_adapter.js';

const CALLBACK = 'https://client.test/callback'; // for codes without a redirectUri

console.info = () => {}; // the provider's advice on its configuration

const readConfig = () => JSON.parse(readFileSync(process.argv[2], 'utf8'));

setStorage(new Map()); // the default storage drops old entries

class Adapter extends MemoryAdapter {
  async find(id) {
    if (this.model !== 'Client') return super.find(id);
    const client = readConfig().clients.find((candidate) => candidate.client_id === id);
    return client && {
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials', 'refresh_token', 'authorization_code'],
      response_types: ['code'],
      redirect_uris: [CALLBACK],
      ...client,
    };
  }
}

const certificate = (ctx) => {
  const shown = ctx.get('x-client-certificate');
  return shown && new X509Certificate(Buffer.from(shown, 'base64'));
};

// A user belongs to one tenant; codes and tokens for the user are not valid in others.
const account = (tenant, user) => `${tenant}/${user}`;
const userOf = (accountId) => accountId.slice(accountId.indexOf('/') + 1);

const { issuer, jwks } = readConfig();
const provider = new Provider(issuer, {
  adapter: Adapter,
  jwks,
  cookies: { keys: ['nobody gets a cookie'] },
  routes: { token: '/oauth/token', jwks: '/token_keys' },
  clientAuthMethods: ['client_secret_post', 'client_secret_basic', 'tls_client_auth'],
  extraClientMetadata: { properties: ['audience', 'lifetime', 'age', 'rotates'] },
  allowOmittingSingleRegisteredRedirectUri: true,
  rotateRefreshToken: (ctx) => ctx.oidc.client.rotates,
  findAccount: (ctx, accountId) =>
    accountId === account(ctx.get('x-tenant'), userOf(accountId))
      ? { accountId, claims: () => ({ sub: accountId }) }
      : undefined,
  extraTokenClaims: (ctx, token) => ({
    ...JSON.parse(ctx.get('x-claims')),
    ...(token.accountId && { email: userOf(token.accountId) }),
  }),
  formats: {
    customizers: {
      jwt(ctx, token, jwt) {
        jwt.header = { typ: 'JWT' }; // as in XSUAA's tokens; Dovecot accepts no other type
        jwt.payload.iss = ctx.get('x-issuer');
        const { age = 0 } = ctx.oidc.client;
        jwt.payload.iat -= age;
        jwt.payload.exp -= age;
      },
    },
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      certificateBoundAccessTokens: true,
      getCertificate: certificate,
      certificateAuthorized: () => true,
      certificateSubjectMatches: (ctx, property, expected) =>
        certificate(ctx).subject.split('\n').includes(expected),
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client) => client.audience,
      getResourceServerInfo: (ctx, audience, client) => ({
        audience,
        scope: ctx.oidc.params.scope ?? '',
        accessTokenTTL: client.lifetime,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
provider.on('server_error', (ctx, error) => console.error(error));

async function issue({ model, value, client_id, tenant, user, lifetime, scope, ...bound }) {
  const client = await provider.Client.find(client_id);
  const accountId = account(tenant, user);
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addResourceScope(client.audience, scope);
  const issued = new provider[model]({
    jti: value,
    accountId,
    client,
    grantId: await grant.save(),
    gty: 'authorization_code',
    resource: client.audience,
    scope,
    expiresIn: lifetime,
    ...(model === 'AuthorizationCode' && { redirectUri: CALLBACK }),
    ...bound,
    ...(bound.codeChallenge && { codeChallengeMethod: 'S256' }),
  });
  return issued.save();
}

const server = createServer(provider.callback());
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
createInterface({ input: process.stdin })
  .on('line', async (line) => console.log(await issue(JSON.parse(line))))
  .on('close', () => process.exit());
