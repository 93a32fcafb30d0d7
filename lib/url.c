/* Parses and encodes URLs. */
#include "lib/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static int bad_url(const char **wrong, const char *text)
{
    *wrong = text;
    return ERR;
}

/* Tells whether the text is a name of letters, digits, '-', '.' and '_'. An IPv4 address looks like
 * one, too. */
static bool is_host_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!text_is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '.' && s.p[i] != '_') {
            return false;
        }
    }
    return s.n > 0 && s.n <= 253;
}

static bool is_ipv6(struct str s)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    if (s.n == 0 || s.n >= sizeof(text) || memchr(s.p, '\0', s.n)) {
        return false;
    }
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return inet_pton(AF_INET6, text, &addr) == 1;
}

/* Parses host [ ":" port ] (RFC 3986 section 3.2). */
static int parse_authority(struct url *url, const char **wrong)
{
    struct str rest = url->authority;
    uint64_t port;
    if (memchr(rest.p, '@', rest.n)) {
        return bad_url(wrong, "has a user name in it");
    }
    if (rest.n && rest.p[0] == '[') {
        rest.p++;
        rest.n--;
        const char *end = memchr(rest.p, ']', rest.n);
        url->host = str_cut(&rest, ']');
        if (!end || !is_ipv6(url->host) || (rest.n && rest.p[0] != ':')) {
            return bad_url(wrong, "has a malformed IPv6 address");
        }
        str_cut(&rest, ':');
    } else {
        url->host = str_cut(&rest, ':');
        if (!is_host_name(url->host)) {
            return bad_url(wrong, url->host.n ? "has a malformed host name" : "has no host");
        }
    }
    url->port = url->https ? 443 : 80;
    if (rest.n) {
        if (text_number(rest, 65535, &port) == ERR || port == 0) {
            return bad_url(wrong, "has a malformed port");
        }
        url->port = (uint16_t)port;
    }
    return OK;
}

int url_parse(struct str in, struct url *url, const char **wrong)
{
    *url = (struct url){.https = str_istarts(in, "https://")};
    if (!url->https && !str_istarts(in, "http://")) {
        return bad_url(wrong, "does not begin with https:// or http://");
    }
    if (!text_is_visible(in)) {
        return bad_url(wrong, "has a blank, a control character or a letter beyond ASCII in it");
    }
    if (memchr(in.p, '#', in.n)) {
        return bad_url(wrong, "has a fragment");
    }
    size_t scheme = url->https ? 8 : 7;
    struct str rest = {in.p + scheme, in.n - scheme};
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?') {
        n++;
    }
    url->authority = (struct str){rest.p, n};
    rest.p += n;
    rest.n -= n;
    const char *mark = rest.n ? memchr(rest.p, '?', rest.n) : NULL;
    n = mark ? (size_t)(mark - rest.p) : rest.n;
    url->path = n ? (struct str){rest.p, n} : str_of("/");
    url->query = (struct str){rest.p + n, rest.n - n};
    return parse_authority(url, wrong);
}

/* ---- encodings ---- */

static int encode(struct buf *out, struct str s, const char *plain, bool plus)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t need = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool keep = text_is_alnum(s.p[i]) || (s.p[i] && strchr(plain, s.p[i]));
        need += keep || (plus && s.p[i] == ' ') ? 1 : 3;
    }
    char *o = need ? buf_room(out, need) : NULL;
    if (!o) {
        return need ? ERR : OK;
    }
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (text_is_alnum(s.p[i]) || (c && strchr(plain, c))) {
            *o++ = s.p[i];
        } else if (plus && c == ' ') {
            *o++ = '+';
        } else {
            *o++ = '%';
            *o++ = digits[c >> 4];
            *o++ = digits[c & 15];
        }
    }
    buf_added(out, need);
    return OK;
}

int url_encode_segment(struct buf *out, struct str s)
{
    if (s.n == 0 || str_eq(s, ".") || str_eq(s, "..")) {
        return ERR;
    }
    return encode(out, s, "-._~", false);
}

int url_encode_form(struct buf *out, struct str s)
{
    return encode(out, s, "*-._", true);
}

size_t url_decode_form(char *out, struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        bool room = s.p[i] == '%' && i + 2 < s.n;
        int high = room ? text_hex_value(s.p[i + 1]) : -1,
            low = room ? text_hex_value(s.p[i + 2]) : -1;
        if (high >= 0 && low >= 0) {
            out[n++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[n++] = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return n;
}
