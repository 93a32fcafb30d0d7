// A real OAuth 2.0 authorization server (oidc-provider) with the paths of SAP's XSUAA. Its access
// tokens are JWTs signed with RS256.
//
//     node oauth_server.mjs CONFIG
//
// CONFIG is a JSON file:
//     issuer    the "iss" of every token
//     jwks      the private key, as a JSON Web Key Set
//     clients   a list of
//         client_id, client_secret, token_endpoint_auth_method (client_secret_post by default)
//         audience    the "aud" of its tokens, a URI
//         lifetime    of its tokens, in seconds
//         claims      what its tokens say besides
// Clients are read from the file for each request, so they may change while the server runs.
//
// Prints the free port of 127.0.0.1 on which it listens, and ends with its standard input.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';
import MemoryAdapter from 'oidc-provider/lib/adapters/memory_adapter.js';

const readConfig = () => JSON.parse(readFileSync(process.argv[2], 'utf8'));

class Adapter extends MemoryAdapter {
  async find(id) {
    if (this.model !== 'Client') return super.find(id);
    const client = readConfig().clients.find((candidate) => candidate.client_id === id);
    return client && {
      token_endpoint_auth_method: 'client_secret_post',
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      ...client,
    };
  }
}

const { issuer, jwks } = readConfig();
const provider = new Provider(issuer, {
  adapter: Adapter,
  jwks,
  cookies: { keys: ['nobody gets a cookie'] },
  routes: { token: '/oauth/token', jwks: '/token_keys' },
  clientAuthMethods: ['client_secret_post', 'client_secret_basic'],
  extraClientMetadata: { properties: ['audience', 'lifetime', 'claims'] },
  extraTokenClaims: (ctx) => ctx.oidc.client.claims,
  formats: {
    customizers: {
      jwt(ctx, token, jwt) {
        jwt.header = { typ: 'JWT' }; // as in XSUAA's tokens; Dovecot takes no other type
      },
    },
  },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
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

const server = createServer(provider.callback());
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit()).resume();
