/* Turns the properties of a Destination into the terms of a mail session, or into the reason why it
 * cannot be used. The checks run in the order in which a person would make them: type and protocol,
 * the way to the server (proxy, host, port, TLS), login (authentication, user, mechanisms). */
#include "core/destination.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/property_reader.h"
#include "core/token_service.h"
#include "core/trust_store.h"
#include "lib/tls_roots.h"

/* Defaults and bounds of connectiontimeout and timeout. */
#define CONNECT_TIMEOUT SECONDS(15)
#define ANSWER_TIMEOUT SECONDS(30)
#define TIMEOUT_MIN SECONDS(1)
#define TIMEOUT_MAX SECONDS(60)

/* Maximum length of a location ID in bytes. SOCKS5 carries the length of its base64 form in one
 * byte. */
enum { LOCATION_ID_MAX = 189 };

/* ---- names ---- */

static const char *const reasons[][2] = {
    [VERDICT_OK] = {"ConfigurationSuccessful", "ConfigurationSuccessful"},
    [VERDICT_TYPE_NOT_SUPPORTED] = {"ConfigurationError-ReferencedDestination-TypeNotSupported",
                                    "ConfigurationError-ReferencedDestination-TypeNotSupported"},
    [VERDICT_PROXY_TYPE_NOT_SUPPORTED] =
        {"ConfigurationError-ReferencedDestination-ProxyTypeNotSupported",
         "ConfigurationError-ReferencedDestinationWithFragment-ProxyTypeNotSupported"},
    [VERDICT_AUTHENTICATION_NOT_SUPPORTED] =
        {"ConfigurationError-ReferencedDestination-AuthenticationNotSupported",
         "ConfigurationError-ReferencedDestination-AuthenticationNotSupported"},
    [VERDICT_URL_NOT_SUPPORTED] =
        {"ConfigurationError-ReferencedDestination-UrlNotSupported",
         "ConfigurationError-ReferencedDestinationWithFragment-UrlNotSupported"},
    [VERDICT_LOOPBACK_URL_NOT_SUPPORTED] =
        {"ConfigurationError-ReferencedDestination-LoopbackUrlNotSupported",
         "ConfigurationError-ReferencedDestinationWithFragment-LoopbackUrlNotSupported"},
    [VERDICT_KEY_STORE_INVALID] = {"ConfigurationError-ReferencedDestination-KeyStoreInvalid",
                                   "ConfigurationError-ReferencedDestination-KeyStoreInvalid"},
    [VERDICT_TRUST_STORE_INVALID] = {"ConfigurationError-ReferencedDestination-TrustStoreInvalid",
                                     "ConfigurationError-ReferencedDestination-TrustStoreInvalid"},
    [VERDICT_CONFIGURATION_FAILED] = {"ConfigurationFailed", "ConfigurationFailed"},
    [VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED] =
        {"ConfigurationError-ConnectivityProxy-NotConfigured",
         "ConfigurationError-ConnectivityProxy-NotConfigured"},
    [VERDICT_TENANT_MODE_MISMATCH] = {"ConfigurationError-ProxyTenantModeMismatch",
                                      "ConfigurationError-ProxyTenantModeMismatch"},
    [VERDICT_FRAGMENT_NOT_FOUND] = {"ConfigurationError-ReferencedFragment-NotFound",
                                    "ConfigurationError-ReferencedFragment-NotFound"},
    [VERDICT_NOT_FOUND] = {"ConfigurationError-ReferencedDestination-NotFound",
                           "ConfigurationError-ReferencedDestination-NotFound"},
    [VERDICT_INSTANCE_NOT_CONFIGURED] =
        {"ConfigurationError-DestinationServiceInstance-NotConfigured",
         "ConfigurationError-DestinationServiceInstance-NotConfigured"},
    [VERDICT_UNREADABLE] = {"ConfigurationFailed", "ConfigurationFailed"},
};
static_assert(ARRAY_LEN(reasons) == VERDICT_COUNT, "every verdict has its reason");

const char *verdict_reason(enum verdict verdict, bool with_fragment)
{
    return reasons[verdict][with_fragment];
}

const char *mail_protocol_name(enum mail_protocol protocol)
{
    return protocol == MAIL_POP3S ? "pop3s" : "pop3";
}

/* ---- reading ---- */

enum { FIELD_MAX = sizeof(((struct destination_problem *)0)->field) };

/* Returns 'is "VALUE"' or "is missing" for a message, valid until the next call of this function or
 * of reader_show. */
static const char *state(struct reader *r, struct str value)
{
    char shown[80];
    if (value.n == 0) {
        return "is missing";
    }
    text_printable(shown, sizeof(shown), value);
    text_fmt(r->shown, sizeof(r->shown), "is \"%s\"", shown);
    return r->shown;
}

/* Returns "mail.pop3.host" for "host", or "mail.pop3s.host" with the protocol pop3s. */
static const char *mail_name(const struct reader *r, char out[static FIELD_MAX], const char *suffix)
{
    text_fmt(out, FIELD_MAX, "mail.%s.%s", mail_protocol_name(r->dest->protocol), suffix);
    return out;
}

static bool mail_flag(struct reader *r, const char *suffix, bool otherwise)
{
    char name[FIELD_MAX];
    return reader_flag(r, mail_name(r, name, suffix), otherwise);
}

/* ---- type, protocol and name ---- */

static int read_type(struct reader *r)
{
    struct str type = reader_value(r, "Type");
    if (!str_ieq(type, "MAIL")) {
        return reader_refuse(r, VERDICT_TYPE_NOT_SUPPORTED, "Type",
                             "%s; destinations of type MAIL are served", state(r, type));
    }
    struct str protocol = reader_value(r, "mail.transport.protocol");
    if (str_ieq(protocol, "pop3") || str_ieq(protocol, "pop3s")) {
        r->dest->protocol = protocol.n == strlen("pop3s") ? MAIL_POP3S : MAIL_POP3;
        return OK;
    }
    if (protocol.n) {
        return reader_refuse(r, VERDICT_TYPE_NOT_SUPPORTED, "mail.transport.protocol",
                             "is \"%s\"; pop3 and pop3s are served", reader_show(r, protocol));
    }
    bool pop3 = reader_has(r, "mail.pop3.host"), pop3s = reader_has(r, "mail.pop3s.host");
    if (pop3 == pop3s) {
        return reader_refuse(
            r, VERDICT_TYPE_NOT_SUPPORTED, "mail.transport.protocol",
            "is missing, and %s of mail.pop3.host and mail.pop3s.host is there to tell; "
            "set it to pop3 or pop3s",
            pop3 ? "each" : "none");
    }
    r->dest->protocol = pop3s ? MAIL_POP3S : MAIL_POP3;
    return OK;
}

static int read_name(struct reader *r)
{
    struct str name;
    if (reader_wire_value(r, "Name", DESTINATION_NAME_MAX, &name) < 0) {
        return ERR;
    }
    name = str_trim(name);
    if (name.n == 0) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, "Name", "is missing; give one");
    }
    r->dest->name = mem_strndup(name.p, name.n);
    return OK;
}

/* ---- proxy, host and port ---- */

static int read_proxy_type(struct reader *r)
{
    struct str type = reader_value(r, "ProxyType");
    if (str_ieq(type, "Internet")) {
        r->dest->proxy = PROXY_INTERNET;
    } else if (str_ieq(type, "OnPremise")) {
        r->dest->proxy = PROXY_ON_PREMISE;
    } else {
        return reader_refuse(r, VERDICT_PROXY_TYPE_NOT_SUPPORTED, "ProxyType",
                             "%s; set it to Internet or OnPremise", state(r, type));
    }

    struct str location;
    if (reader_wire_value(r, "CloudConnectorLocationId", LOCATION_ID_MAX, &location) < 0) {
        return ERR;
    }
    bool used = r->dest->proxy == PROXY_ON_PREMISE;
    r->dest->location_id = mem_strndup(location.p, used ? location.n : 0);
    return OK;
}

/* Tells whether the address is loopback, or unspecified, which Linux treats as loopback. */
static bool local_ip4(const unsigned char a[4])
{
    return a[0] == 127 || a[0] == 0;
}

static bool local_ip6(const unsigned char a[16])
{
    static const unsigned char zero[12], mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    if (memcmp(a, mapped, 12) == 0) {
        return local_ip4(a + 12);
    }
    /* ::, ::1, and the obsolete IPv4-compatible form ::127.0.0.1 */
    bool tiny = memcmp(a + 12, zero, 3) == 0 && a[15] <= 1;
    return memcmp(a, zero, 12) == 0 && (tiny || a[12] == 127);
}

/* Tells whether the name always means this machine (RFC 6761 section 6.3). */
static bool local_name(struct str name)
{
    static const char suffix[] = ".localhost";
    size_t n = strlen(suffix);
    return str_ieq(name, "localhost") ||
           (name.n > n && str_ieq((struct str){name.p + name.n - n, n}, suffix));
}

/* Tells whether the name has labels of letters, digits, '-' and '_' with 1 to 63 bytes each (RFC
 * 1035 section 2.3.4; underscores are in use in private networks). */
static bool name_syntax(struct str name)
{
    size_t label = 0;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool letter = text_is_alnum(c) || c == '-' || c == '_';
        if (c == '.' ? label == 0 : (!letter || ++label > 63)) {
            return false;
        }
        if (c == '.') {
            label = 0;
        }
    }
    return label > 0;
}

static int refuse_loopback(struct reader *r, const char *field)
{
    return reader_refuse(
        r, VERDICT_LOOPBACK_URL_NOT_SUPPORTED, field,
        "is an address of the machine that the proxy runs on; give the mail server's");
}

/* Checks a host that is an address. inet_aton reads the old spellings of IPv4 addresses, as 127.1,
 * 0x7f.1 and 2130706433, which are refused. Returns AGAIN when the host is not an address. */
static int check_address(struct reader *r, const char *field, const char *host, const char *bare)
{
    unsigned char ip6[16], ip4[4];
    struct in_addr odd;
    if (inet_pton(AF_INET6, host, ip6) == 1) {
        r->host_is_local = local_ip6(ip6);
        if (r->dest->proxy == PROXY_ON_PREMISE) {
            return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, field,
                                 "is an IPv6 address, which the Connectivity Proxy cannot reach; "
                                 "give the virtual host");
        }
    } else if (inet_pton(AF_INET, host, ip4) == 1) {
        r->host_is_local = local_ip4(ip4);
    } else if (r->dest->proxy == PROXY_INTERNET && inet_aton(bare, &odd)) {
        memcpy(ip4, &odd, sizeof(ip4));
        if (local_ip4(ip4) && !r->allow_loopback) {
            return refuse_loopback(r, field);
        }
        return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, field,
                             "is an unusual spelling of an IPv4 address; write %u.%u.%u.%u", ip4[0],
                             ip4[1], ip4[2], ip4[3]);
    } else {
        return AGAIN;
    }
    if (r->host_is_local && r->dest->proxy == PROXY_INTERNET && !r->allow_loopback) {
        return refuse_loopback(r, field);
    }
    return OK;
}

static int check_host(struct reader *r, const char *field)
{
    const char *host = r->dest->host, *bare = r->dest->tls_name;
    int address = check_address(r, field, host, bare);
    if (address != AGAIN) {
        return address;
    }
    if (strstr(host, "://")) {
        return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, field,
                             "is a URL; give the name of the mail server alone");
    }
    if (strchr(host, ':')) {
        return reader_refuse(
            r, VERDICT_URL_NOT_SUPPORTED, field,
            "contains a colon; give the name alone here, and the port as mail.%s.port",
            mail_protocol_name(r->dest->protocol));
    }
    if (!name_syntax(str_of(bare))) {
        return reader_refuse(
            r, VERDICT_URL_NOT_SUPPORTED, field,
            "\"%s\" is not a host name: letters, digits, '-' and '.' (names in other "
            "scripts in their xn-- form)",
            reader_show(r, str_of(host)));
    }
    r->host_is_local = r->dest->proxy == PROXY_INTERNET && local_name(str_of(bare));
    return r->host_is_local && !r->allow_loopback ? refuse_loopback(r, field) : OK;
}

static int read_host(struct reader *r)
{
    char name[FIELD_MAX];
    const char *field = mail_name(r, name, "host");
    if (!reader_has(r, field) && reader_has(r, "mail.host")) {
        field = "mail.host";
    }
    struct str host;
    if (reader_wire_value(r, field, SIZE_MAX, &host) < 0) {
        return ERR;
    }
    host = str_trim(host);
    if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']') {
        host = (struct str){host.p + 1, host.n - 2};
    }
    if (host.n == 0) {
        return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, field,
                             "is missing; give the name of the mail server");
    }
    bool dot = host.n > 1 && host.p[host.n - 1] == '.';
    if (host.n - dot > DESTINATION_HOST_MAX) {
        return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, field, "is longer than %d bytes",
                             DESTINATION_HOST_MAX);
    }
    r->dest->host = mem_strndup(host.p, host.n);
    r->dest->tls_name = mem_strndup(host.p, host.n - dot);
    return check_host(r, field);
}

static int read_port(struct reader *r)
{
    char name[FIELD_MAX];
    struct str v = reader_value(r, mail_name(r, name, "port"));
    uint64_t port = r->dest->tls == TLS_IMPLICIT ? 995 : 110;
    if (reader_has(r, name) && (text_number(v, 65535, &port) < 0 || port == 0)) {
        return reader_refuse(r, VERDICT_URL_NOT_SUPPORTED, name,
                             "\"%s\" is not a port number; give one from 1 to 65535",
                             reader_show(r, v));
    }
    r->dest->port = (uint16_t)port;
    return OK;
}

/* ---- TLS ---- */

/* Takes the next word off a list that is separated by white space or commas. Returns an empty word
 * at the end. */
static struct str next_word(struct str *list)
{
    static const char separators[] = " \t\r\n,";
    size_t i = 0, start;
    while (i < list->n && list->p[i] && strchr(separators, list->p[i])) {
        i++;
    }
    for (start = i; i < list->n && !(list->p[i] && strchr(separators, list->p[i])); i++) {
    }
    struct str word = {list->p + start, i - start};
    *list = (struct str){list->p + i, list->n - i};
    return word;
}

static int read_tls_versions(struct reader *r)
{
    char name[FIELD_MAX];
    struct str list = reader_value(r, mail_name(r, name, "ssl.protocols"));
    bool v12 = false, v13 = false;
    if (list.n == 0) {
        v12 = v13 = true;
    }
    for (struct str word = next_word(&list); word.n; word = next_word(&list)) {
        if (str_ieq(word, "TLSv1.2")) {
            v12 = true;
        } else if (str_ieq(word, "TLSv1.3")) {
            v13 = true;
        } else {
            reader_warn(r, "%s: \"%s\" is not supported; TLSv1.2 and TLSv1.3 are", name,
                        reader_show(r, word));
        }
    }
    if (!v12 && !v13) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, name,
                             "names neither TLSv1.2 nor TLSv1.3; add one of them");
    }
    r->dest->tls_min = v12 ? MAIL_TLS_1_2 : MAIL_TLS_1_3;
    r->dest->tls_max = v13 ? MAIL_TLS_1_3 : MAIL_TLS_1_2;
    return OK;
}

static void read_tls_mode(struct reader *r)
{
    const char *p = mail_protocol_name(r->dest->protocol);
    bool pop3s = r->dest->protocol == MAIL_POP3S;
    bool ssl = mail_flag(r, "ssl.enable", pop3s);
    bool wanted = mail_flag(r, "starttls.enable", false);
    bool required = mail_flag(r, "starttls.required", false);
    if (pop3s && !ssl) {
        reader_warn(r, "mail.pop3s.ssl.enable is ignored: pop3s is always TLS");
    }
    if (pop3s || ssl) {
        r->dest->tls = TLS_IMPLICIT;
        if (wanted || required) {
            reader_warn(
                r, "mail.%s.starttls.* is ignored: the connection is TLS from its first byte", p);
        }
    } else if (required) {
        r->dest->tls = TLS_STLS_REQUIRED;
    } else if (wanted) {
        r->dest->tls = TLS_STLS_WANTED;
        reader_warn(
            r,
            "mail.%s.starttls.enable without mail.%s.starttls.required falls back to clear text "
            "when the server does not offer STLS",
            p, p);
    }
}

static void read_tls_trust(struct reader *r)
{
    char name[FIELD_MAX];
    struct str list = reader_value(r, mail_name(r, name, "ssl.trust"));
    for (struct str word = next_word(&list); word.n; word = next_word(&list)) {
        if (str_eq(word, "*") || str_ieq(word, r->dest->host) || str_ieq(word, r->dest->tls_name)) {
            r->dest->tls_trust_any = true;
        }
    }
    if (r->dest->tls_trust_any) {
        reader_warn(r,
                    "%s: any certificate is accepted from %s, so anybody on the way can read along",
                    name, r->dest->tls_name);
    }
    r->dest->tls_check_host = mail_flag(r, "ssl.checkserveridentity", true);
    if (!r->dest->tls_check_host) {
        reader_warn(r, "%s is false: a certificate for any other name is accepted from %s",
                    mail_name(r, name, "ssl.checkserveridentity"), r->dest->tls_name);
    }
}

/* ---- login ---- */

static int read_auth(struct reader *r)
{
    struct str v = reader_value(r, "Authentication");
    bool known = v.n == 0;
    r->dest->auth = AUTH_BASIC;
    for (enum mail_auth auth = AUTH_NONE; auth <= AUTH_AUTHORIZATION_CODE; auth++) {
        if (str_ieq(v, mail_auth_name(auth))) {
            r->dest->auth = auth;
            known = true;
        }
    }
    if (!known) {
        return reader_refuse(
            r, VERDICT_AUTHENTICATION_NOT_SUPPORTED, "Authentication",
            "is \"%s\"; supported are BasicAuthentication, OAuth2ClientCredentials, "
            "OAuth2RefreshToken, OAuth2AuthorizationCode and NoAuthentication",
            reader_show(r, v));
    }
    if (!mail_flag(r, "auth", true)) {
        if (v.n && r->dest->auth != AUTH_NONE) {
            reader_warn(
                r, "Authentication=%s is ignored: mail.%s.auth is false, clients log in themselves",
                mail_auth_name(r->dest->auth), mail_protocol_name(r->dest->protocol));
        }
        r->dest->auth = AUTH_NONE;
    }
    return OK;
}

static bool is_oauth(enum mail_auth auth)
{
    return auth != AUTH_NONE && auth != AUTH_BASIC;
}

/* Reads the user from mail.<p>.user, mail.user or User: the first of these that is given. */
static int read_user(struct reader *r)
{
    char name[FIELD_MAX];
    const char *field = mail_name(r, name, "user");
    if (!reader_has(r, field)) {
        field = !reader_has(r, "mail.user") && reader_has(r, "User") ? "User" : "mail.user";
    }
    struct str user = {"", 0};
    if (r->dest->auth != AUTH_NONE &&
        reader_wire_value(r, field, DESTINATION_USER_MAX, &user) < 0) {
        return ERR;
    }
    if (is_oauth(r->dest->auth) && user.n && memchr(user.p, '\1', user.n)) {
        return reader_refuse(
            r, VERDICT_CONFIGURATION_FAILED, field,
            "contains the character U+0001, which XOAUTH2 cannot carry; remove it");
    }
    bool ours = r->dest->auth == AUTH_BASIC || r->dest->auth == AUTH_CLIENT_CREDENTIALS;
    if (ours && user.n == 0) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, field,
                             "is missing; give the user name at the mail server");
    }
    r->dest->user = mem_strndup(user.p, user.n);
    return OK;
}

static int read_password(struct reader *r)
{
    const char *field =
        !reader_has(r, "mail.password") && reader_has(r, "Password") ? "Password" : "mail.password";
    struct str password;
    if (r->dest->auth != AUTH_BASIC) {
        if (is_oauth(r->dest->auth) && reader_has(r, field)) {
            reader_warn(r, "%s is ignored beside %s", field, mail_auth_name(r->dest->auth));
        }
        return OK;
    }
    if (reader_wire_value(r, field, DESTINATION_PASSWORD_MAX, &password) < 0) {
        return ERR;
    }
    if (password.n == 0) {
        return reader_refuse(r, VERDICT_CONFIGURATION_FAILED, field,
                             "is missing; add it (an export from the cockpit leaves secrets out)");
    }
    secret_set(&r->dest->password, password.p, password.n);
    return OK;
}

static void add_mechanism(struct destination *d, enum mechanism m)
{
    for (size_t i = 0; i < d->n_mechanisms; i++) {
        if (d->mechanisms[i] == m) {
            return;
        }
    }
    d->mechanisms[d->n_mechanisms++] = m;
}

/* Adds the mechanism LOGIN: Jakarta Mail means USER and PASS by it, and APOP as a variant. */
static void add_login(struct destination *d, bool apop)
{
    if (apop) {
        add_mechanism(d, MECH_APOP);
    }
    add_mechanism(d, MECH_USER_PASS);
}

static void read_basic_list(struct reader *r, const char *name, struct str list, bool apop)
{
    for (struct str word = next_word(&list); word.n; word = next_word(&list)) {
        if (str_ieq(word, "LOGIN")) {
            add_login(r->dest, apop);
        } else if (str_ieq(word, "PLAIN")) {
            add_mechanism(r->dest, MECH_PLAIN);
        } else if (str_ieq(word, "APOP")) {
            add_mechanism(r->dest, MECH_APOP);
        } else {
            reader_warn(r, "%s: %s cannot be used with a password here and is skipped", name,
                        reader_show(r, word));
        }
    }
}

static int read_mechanisms(struct reader *r)
{
    char name[FIELD_MAX];
    struct destination *d = r->dest;
    struct str list = reader_value(r, mail_name(r, name, "auth.mechanisms"));
    bool apop = mail_flag(r, "apop.enable", false);
    bool plain = !mail_flag(r, "auth.plain.disable", false);
    bool login = !mail_flag(r, "auth.login.disable", false);
    d->xoauth2_two_lines = mail_flag(r, "auth.xoauth2.two.line.authentication.format", true);
    if (d->auth == AUTH_NONE) {
        return OK;
    }
    if (is_oauth(d->auth)) {
        bool listed = list.n == 0;
        for (struct str word = next_word(&list); word.n; word = next_word(&list)) {
            listed = listed || str_ieq(word, "XOAUTH2");
        }
        if (!listed || mail_flag(r, "auth.xoauth2.disable", false)) {
            reader_warn(r, "%s: XOAUTH2 is used all the same, for the token of %s",
                        listed ? mail_name(r, name, "auth.xoauth2.disable") : name,
                        mail_auth_name(d->auth));
        }
        add_mechanism(d, MECH_XOAUTH2);
        return OK;
    }
    if (list.n) {
        read_basic_list(r, name, list, apop);
    } else {
        if (apop) {
            add_mechanism(d, MECH_APOP);
        }
        if (plain) {
            add_mechanism(d, MECH_PLAIN);
        }
        if (login) {
            add_mechanism(d, MECH_USER_PASS);
        }
    }
    if (d->n_mechanisms == 0) {
        return reader_refuse(
            r, VERDICT_AUTHENTICATION_NOT_SUPPORTED, name,
            "leaves no way to log in with a password; name PLAIN, LOGIN (USER and PASS) "
            "or APOP, or remove it and auth.*.disable");
    }
    return OK;
}

/* ---- the rest ---- */

static int64_t read_timeout(struct reader *r, const char *suffix, int64_t otherwise)
{
    char name[FIELD_MAX];
    struct str v = reader_value(r, mail_name(r, name, suffix));
    struct str digits = v;
    uint64_t ms = 0;
    bool negative = v.n && v.p[0] == '-';
    if (negative) {
        digits = (struct str){v.p + 1, v.n - 1};
    }
    if (!reader_has(r, name)) {
        return otherwise;
    }
    if (text_number(digits, INT32_MAX, &ms) < 0) {
        reader_warn(r, "%s: \"%s\" is not a number of milliseconds; %lld is used", name,
                    reader_show(r, v), (long long)(otherwise / MILLIS(1)));
        return otherwise;
    }
    /* In Jakarta Mail 0 and less mean no limit. */
    if (negative || ms == 0 || MILLIS(ms) > TIMEOUT_MAX) {
        return TIMEOUT_MAX;
    }
    return MILLIS(ms) < TIMEOUT_MIN ? TIMEOUT_MIN : MILLIS(ms);
}

/* The ends of the names "mail.<p>.*" that need no warning: properties that are read above, and
 * properties without meaning for a proxy. A '*' at the end stands for anything. */
static const char *const known_suffixes[] = {
    "host", "port", "user", "auth", "auth.mechanisms", "auth.plain.disable", "auth.login.disable",
    "auth.xoauth2.disable", "auth.xoauth2.two.line.authentication.format", "auth.ntlm.disable",
    "auth.digest-md5.disable", "apop.enable", "disablecapa", "ssl.enable", "ssl.trust",
    "ssl.checkserveridentity", "ssl.protocols", "starttls.enable", "starttls.required",
    "connectiontimeout", "timeout",
    /* without meaning for a proxy: they tell a mail client how to read */
    "rsetbeforequit", "message.class", "disabletop", "forgettopheaders", "pipelining",
    "filecache.*", "cachewriteto", "keepmessagecontent", "finalizecleanclose",
    "executor.writetimeout", "socketFactory*", "ssl.socketFactory*", "ssl.hostnameverifier*",
    "from"};

static bool known_suffix(const char *suffix)
{
    for (size_t i = 0; i < ARRAY_LEN(known_suffixes); i++) {
        const char *k = known_suffixes[i];
        size_t n = strlen(k);
        if (k[n - 1] == '*' ? strncmp(suffix, k, n - 1) == 0 : strcmp(suffix, k) == 0) {
            return true;
        }
    }
    return false;
}

static void warn_of_ignored(struct reader *r)
{
    const char *other = mail_protocol_name(r->dest->protocol == MAIL_POP3 ? MAIL_POP3S : MAIL_POP3);
    char ours_prefix[FIELD_MAX], other_prefix[FIELD_MAX];
    bool others = false;
    mail_name(r, ours_prefix, "");
    text_fmt(other_prefix, sizeof(other_prefix), "mail.%s.", other);
    for (size_t i = 0; i < r->props->n; i++) {
        const char *name = r->props->list[i].name;
        if (strncmp(name, ours_prefix, strlen(ours_prefix)) == 0) {
            if (!known_suffix(name + strlen(ours_prefix))) {
                reader_warn(r, "%s is ignored: it is not supported", reader_show(r, str_of(name)));
            }
        } else if (strncmp(name, other_prefix, strlen(other_prefix)) == 0) {
            others = true;
        } else if (strcmp(name, "KeyStoreLocation") == 0) {
            reader_warn(r, "%s is ignored: it is not supported", name);
        }
    }
    if (others) {
        reader_warn(r, "%s* is ignored: the protocol in use is %s", other_prefix,
                    mail_protocol_name(r->dest->protocol));
    }
}

static void read_rest(struct reader *r)
{
    struct destination *d = r->dest;
    d->connect_timeout = read_timeout(r, "connectiontimeout", CONNECT_TIMEOUT);
    d->answer_timeout = read_timeout(r, "timeout", ANSWER_TIMEOUT);
    d->ask_capa = !mail_flag(r, "disablecapa", false);
    if (d->auth == AUTH_BASIC && d->tls == TLS_NONE && d->proxy == PROXY_INTERNET &&
        !r->host_is_local) {
        reader_warn(r,
                    "user and password go to %s in clear text: set mail.%s.starttls.required, or "
                    "use pop3s",
                    d->tls_name, mail_protocol_name(d->protocol));
    }
    warn_of_ignored(r);
}

static int read_all(struct reader *r)
{
    if (read_type(r) < 0 || read_proxy_type(r) < 0 || read_auth(r) < 0 || read_name(r) < 0 ||
        read_host(r) < 0) {
        return ERR;
    }
    read_tls_mode(r);
    read_tls_trust(r);
    if (trust_store_read(r) < 0 || read_tls_versions(r) < 0 || read_port(r) < 0 ||
        read_user(r) < 0 || read_password(r) < 0 || read_mechanisms(r) < 0 ||
        token_service_read(r) < 0) {
        return ERR;
    }
    read_rest(r);
    return OK;
}

static void join_texts(struct destination *d)
{
    const char **const texts[] = {&d->name, &d->host, &d->tls_name, &d->location_id, &d->user};
    d->texts = mem_join(texts, ARRAY_LEN(texts));
}

const struct destination *destination_new(const struct properties *props, bool allow_loopback,
                                          struct destination_problem *problem)
{
    struct reader r = {
        .props = props,
        .dest = mem_zalloc(sizeof(*r.dest)),
        .problem = problem,
        .allow_loopback = allow_loopback,
    };
    *problem = (struct destination_problem){.verdict = VERDICT_OK};
    r.dest->refs = 1;
    int rc = read_all(&r);
    join_texts(r.dest);
    if (rc != OK) {
        destination_unref(r.dest);
        return NULL;
    }
    return r.dest;
}

/* ---- the snapshot ---- */

const struct destination *destination_ref(const struct destination *dest)
{
    ((struct destination *)dest)->refs++;
    return dest;
}

void destination_unref(const struct destination *dest)
{
    struct destination *d = (struct destination *)dest;
    if (!d || --d->refs > 0) {
        return;
    }
    free(d->texts);
    secret_clear(&d->password);
    tls_roots_unref(d->trust_store);
    token_service_free(d->tokens);
    for (size_t i = 0; i < d->n_warnings; i++) {
        free(d->warnings[i]);
    }
    free(d->warnings);
    free(d);
}

void destination_share_trust_store(const struct destination *dest, struct tls_roots *equal)
{
    struct tls_roots *own = dest->trust_store;
    ((struct destination *)dest)->trust_store = tls_roots_ref(equal);
    tls_roots_unref(own);
}

bool destination_equal(const struct destination *a, const struct destination *b)
{
    return strcmp(a->name, b->name) == 0 && a->protocol == b->protocol && a->proxy == b->proxy &&
           strcmp(a->host, b->host) == 0 && a->port == b->port &&
           strcmp(a->location_id, b->location_id) == 0 && a->tls == b->tls &&
           a->tls_trust_any == b->tls_trust_any && a->tls_check_host == b->tls_check_host &&
           a->tls_min == b->tls_min && a->tls_max == b->tls_max &&
           tls_roots_equal(a->trust_store, b->trust_store) && a->auth == b->auth &&
           strcmp(a->user, b->user) == 0 && secret_equal(&a->password, &b->password) &&
           token_service_equal(a->tokens, b->tokens) && a->n_mechanisms == b->n_mechanisms &&
           memcmp(a->mechanisms, b->mechanisms, a->n_mechanisms * sizeof(a->mechanisms[0])) == 0 &&
           a->xoauth2_two_lines == b->xoauth2_two_lines && a->ask_capa == b->ask_capa &&
           a->connect_timeout == b->connect_timeout && a->answer_timeout == b->answer_timeout;
}
