/* How the Destination service reads a reference (help.sap.com, "Destination Service REST API"):
 *
 *     GET /destination-configuration/v1/destinations/NAME          the instance's, or else the
 *                                                                  subaccount's
 *     GET /destination-configuration/v2/destinations/NAME@LEVEL    of this level and no other
 *
 *     X-Fragment-Name: FRAGMENT, with v2 FRAGMENT@LEVEL where it has a level of its own
 *     X-Fragment-Optional: true
 *     X-chain-name: CHAIN
 *     X-chain-var-NAME: VALUE
 *     X-tenant: TENANT */
#include "dest/request.h"

#include <string.h>

#include "btp/service_grant.h"
#include "core/service_key.h"
#include "core/tenant.h"
#include "lib/url.h"

enum {
    SEGMENT_MAX = 3 * DESTINATION_NAME_MAX, /* of a name in the path, percent-encoded */
    VARIABLES_MAX = 64,
};

/* ---- checks ---- */

static bool is_level(const char *level)
{
    static const char *const levels[] = {"subaccount", "instance", "provider_subaccount",
                                         "provider_instance"};
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (strcmp(level, levels[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int check_level(const char *field, const char *level, struct error *err)
{
    char shown[40];
    if (!level || is_level(level)) {
        return OK;
    }
    return error_set(err, FAIL_CONFIG,
                     "%s is \"%s\"; set it to subaccount, instance, provider_subaccount or "
                     "provider_instance",
                     field, text_printable(shown, sizeof(shown), str_of(level)));
}

static int check_levels(const struct dest_ref *ref, const char *instance,
                        const struct service_key *key, struct error *err)
{
    if (check_level("spec.destinationRef.level", ref->level, err) == ERR ||
        check_level("spec.fragmentRef.level", ref->fragment_level, err) == ERR) {
        return ERR;
    }
    if (ref->fragment_level && !ref->level) {
        return error_set(err, FAIL_CONFIG,
                         "spec.fragmentRef.level needs spec.destinationRef.level: "
                         "add that, or remove the level of the fragment");
    }
    if (ref->level && key->ias) {
        return error_set(err, FAIL_CONFIG,
                         "spec.destinationRef.level cannot be used: the service key of Destination "
                         "service instance \"%.100s\" is of Cloud Identity Services, for which "
                         "there are no levels; remove it, or bind the instance with another kind "
                         "of key",
                         instance);
    }
    return OK;
}

/* Tells whether the text is a field value (RFC 9110 section 5.5) of which a recipient may not
 * change or drop anything. */
static bool is_value(const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return false;
        }
    }
    return n == 0 || (text[0] != ' ' && text[n - 1] != ' ');
}

static int check_value(const char *field, const char *text, struct error *err)
{
    if (!text || is_value(text)) {
        return OK;
    }
    return error_set(err, FAIL_CONFIG,
                     "%s cannot be sent to the Destination service, as a header field carries only "
                     "printable ASCII characters, without blanks around them",
                     field);
}

static int check_variable(const struct dest_variable *variable, struct error *err)
{
    char field[160], shown[80];
    text_printable(shown, sizeof(shown), str_of(variable->name));
    if (!text_is_token(str_of(variable->name))) {
        return error_set(err, FAIL_CONFIG,
                         "spec.chainRef.variables: \"%s\" cannot be part of a header field's name",
                         shown);
    }
    text_fmt(field, sizeof(field), "spec.chainRef.variables: the value of \"%s\"", shown);
    return check_value(field, variable->value, err);
}

static int check_chain(const struct dest_ref *ref, struct error *err)
{
    if (ref->n_variables > VARIABLES_MAX) {
        return error_set(err, FAIL_CONFIG, "spec.chainRef.variables has more than %d entries",
                         VARIABLES_MAX);
    }
    for (size_t i = 0; i < ref->n_variables; i++) {
        if (check_variable(&ref->variables[i], err) == ERR) {
            return ERR;
        }
    }
    return check_value("spec.chainRef.name", ref->chain, err);
}

static int check_tenant(const struct dest_ref *ref, const char *instance,
                        const struct service_key *key, struct error *err)
{
    char shown[80];
    struct oauth_grant grant;
    struct error no_url;
    struct buf url;
    if (!ref->tenant) {
        return OK;
    }
    if (!tenant_is_valid(ref->tenant)) {
        return error_set(
            err, FAIL_CONFIG,
            "\"%s\" cannot be a tenant's subdomain, which has to be one label of a host name: "
            "letters, digits and hyphens, at most 63",
            text_printable(shown, sizeof(shown), str_of(ref->tenant)));
    }
    if (key->ias) {
        return error_set(err, FAIL_CONFIG,
                         "Destination service instance \"%.100s\" cannot serve tenants with its "
                         "service key, which is of Cloud Identity Services; bind it with another "
                         "kind of key",
                         instance);
    }
    int rc = service_grant(key, ref->tenant, &url, &grant, &no_url);
    buf_free(&url);
    if (rc == ERR) {
        error_set(err, FAIL_CONFIG, "Destination service instance \"%.100s\": %s", instance,
                  no_url.text);
    }
    return rc;
}

int dest_request_check(const struct dest_ref *ref, const char *instance,
                       const struct service_key *key, enum verdict *verdict, struct error *err)
{
    char space[SEGMENT_MAX];
    struct buf segment = BUF_ON(space);
    if (url_encode_segment(&segment, str_of(ref->name)) == ERR) {
        *verdict = VERDICT_NOT_FOUND;
        return error_set(err, FAIL_CONFIG, "no destination can have this name");
    }
    *verdict = VERDICT_CONFIGURATION_FAILED;
    if (check_levels(ref, instance, key, err) == ERR ||
        check_value("spec.fragmentRef.name", ref->fragment, err) == ERR ||
        check_chain(ref, err) == ERR || check_tenant(ref, instance, key, err) == ERR) {
        return ERR;
    }
    *verdict = VERDICT_OK;
    return OK;
}

/* ---- the request ---- */

int dest_request_target(struct buf *out, struct str base, const struct dest_ref *ref,
                        bool with_tokens)
{
    bool fits = buf_fmt(out, "%.*s/destination-configuration/%s/destinations/", STR_ARG(base),
                        ref->level ? "v2" : "v1") == OK &&
                url_encode_segment(out, str_of(ref->name)) == OK &&
                buf_fmt(out, "%s%s%s", ref->level ? "@" : "", ref->level ? ref->level : "",
                        with_tokens ? "" : "?$skipTokenRetrieval=true") == OK;
    return fits ? OK : ERR;
}

static int add_fragment(struct buf *out, const struct dest_ref *ref)
{
    const char *level = ref->fragment_level;
    return buf_fmt(out, "X-Fragment-Name: %s%s%s\r\n%s", ref->fragment, level ? "@" : "",
                   level ? level : "",
                   ref->fragment_optional ? "X-Fragment-Optional: true\r\n" : "");
}

static int add_chain(struct buf *out, const struct dest_ref *ref)
{
    if (buf_fmt(out, "X-chain-name: %s\r\n", ref->chain) == ERR) {
        return ERR;
    }
    for (size_t i = 0; i < ref->n_variables; i++) {
        const struct dest_variable *variable = &ref->variables[i];
        if (buf_fmt(out, "X-chain-var-%s: %s\r\n", variable->name, variable->value) == ERR) {
            return ERR;
        }
    }
    return OK;
}

int dest_request_headers(struct buf *out, const struct dest_ref *ref, const char *tenant)
{
    bool fits = (!ref->fragment || add_fragment(out, ref) == OK) &&
                (!ref->chain || add_chain(out, ref) == OK) &&
                (!tenant || buf_fmt(out, "X-tenant: %s\r\n", tenant) == OK);
    return fits ? OK : ERR;
}

const char *dest_request_tenant(const struct dest_ref *ref, const struct service_key *key)
{
    const char *tenant = ref->tenant ? ref->tenant : key->identity_zone;
    return tenant && tenant_is_valid(tenant) ? tenant : NULL;
}
