/* One table of diagnoses. */
#include "tproxy/diagnosis.h"

#include <assert.h>

static const struct diagnosis table[] = {
    {FAIL_CONFIG, 10, "the destination cannot be used as it is",
     "correct it: the text names the property, or what the mail server does not offer"},
    {FAIL_DNS, 11, "the name of a server did not resolve",
     "compare the host name in the destination with that of the server, and ask the resolver that "
     "tproxy uses"},
    {FAIL_CONNECT, 12, "no address of the server accepted the connection",
     "compare host and port in the destination, and let tproxy through firewalls and "
     "NetworkPolicies"},
    {FAIL_SOCKS, 13, "the Connectivity Proxy refused, or closed the connection",
     "look at the Cloud Connector: whether it is connected, exposes this virtual host, and has "
     "this location ID"},
    {FAIL_TLS, 14, "there was no TLS with this server",
     "compare protocol and port: pop3s is usual on port 995, STLS on port 110"},
    {FAIL_CERT, 15, "the certificate of the server is not trusted",
     "use the host name that the certificate is for, or trust its issuer (the file of "
     "TrustStoreLocation, if there is one; else additionalCAs, in local mode --ca-file)"},
    {FAIL_TOKEN, 16, "no access token could be obtained",
     "look at the authorization server, and at tokenServiceURL in the destination"},
    {FAIL_AUTH, 17, "the login was refused",
     "correct user, password or client before the server is asked again: servers lock accounts"},
    {FAIL_PROTOCOL, 18, "the server does not speak POP3 as it should",
     "make sure that host and port are those of a POP3 server"},
    {FAIL_TIMEOUT, 19, "the server was silent for too long",
     "compare protocol and port: a server that expects TLS waits in silence; else try again later"},
    {FAIL_REMOTE, 20, "the server cannot serve now, or closed the connection",
     "read its text, and try again later: another session may have the mailbox"},
    {FAIL_LIMIT, 21, "a limit of tproxy was reached",
     "try again later, or raise the limit that the text names"},
    {FAIL_INTERNAL, 22, "the system refused tproxy a resource", "read the log of tproxy"},
};
static_assert(ARRAY_LEN(table) == FAIL_COUNT - 1, "one row for each class");

const struct diagnosis *diagnosis_of(struct str class)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (str_eq(class, fail_name(table[i].fail))) {
            return &table[i];
        }
    }
    return NULL;
}
