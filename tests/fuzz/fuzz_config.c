/* Fuzzes the reading of a TransparentProxy object. The result is either values within their bounds
 * or complaints. The status that is written needs no second write. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "configuration/config.h"
#include "lib/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config_remarks remarks;

static void must(bool ok)
{
    if (!ok) {
        abort();
    }
}

static void one_line(const char *text, size_t max)
{
    struct str s = str_of(text);
    must(s.n > 0 && s.n <= max && !text_has_control(s));
}

static void check_secret(const struct config_secret *s)
{
    one_line(s->name, CONFIG_NAME_MAX);
    one_line(s->namespace, CONFIG_NAME_MAX);
    must(strlen(s->key) <= CONFIG_NAME_MAX);
}

static void check_credentials(const struct config_credentials *c)
{
    struct config_credentials copy = config_credentials_copy(c);
    check_secret(&c->service_key);
    check_secret(&c->private_key);
    must(c->private_key.key[0] && config_credentials_equal(c, &copy));
    config_credentials_clear(&copy);
}

static void check_connectivity(const struct config_connectivity *c)
{
    must(c->port > 0 && c->timeout >= SECONDS(1) && c->timeout <= SECONDS(60));
    must(c->service || !c->namespace);
    if (c->service) {
        one_line(c->service, CONFIG_NAME_MAX);
    }
    if (c->namespace) {
        one_line(c->namespace, CONFIG_NAME_MAX);
    }
    if (c->credentials) {
        check_credentials(c->credentials);
    }
}

static void check(const struct config *c)
{
    must(c->connect_timeout >= SECONDS(1) && c->connect_timeout <= SECONDS(60));
    must(c->read_timeout >= SECONDS(1) && c->read_timeout <= SECONDS(60));
    must(c->interval >= SECONDS(60) && c->interval <= SECONDS(7 * 24 * 3600));
    must(c->n_instances <= CONFIG_INSTANCES_MAX);
    for (size_t i = 0; i < c->n_instances; i++) {
        const struct config_instance *in = &c->instances[i];
        one_line(in->name, CONFIG_NAME_MAX);
        check_credentials(&in->credentials);
    }
    if (c->default_instance) {
        one_line(c->default_instance, CONFIG_NAME_MAX);
    }
    check_connectivity(&c->connectivity);
    if (c->additional_cas) {
        check_secret(c->additional_cas);
        must(c->additional_cas->key[0]);
    }
}

static void check_status(struct json_value observed)
{
    struct config_condition conditions[] = {
        {.type = "Configured",
         .status = remarks.n_complaints == 0,
         .reason = "R",
         .message = "\"m\""},
        {.type = "SomeKeysIgnored", .reason = "R", .message = remarks.ignored[0]},
    };
    struct buf out, none;
    buf_init(&out, 64 * 1024 + 12 * json_text(observed).n);
    buf_init(&none, 0);
    int rc = config_status(&out, observed, CONFIG_WARNING, conditions, 2, "2025-11-03T08:00:00Z");
    if (rc == OK) {
        struct json *doc = json_parse(buf_str(&out), NULL);
        must(doc != NULL);
        must(config_status(&none, json_root(doc), CONFIG_WARNING, conditions, 2, "now") == AGAIN);
        json_free(doc);
    }
    must(rc != ERR && buf_len(&none) == 0);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *doc = json_parse((struct str){(const char *)data, size}, NULL);
    if (!doc) {
        return 0;
    }
    struct config *config = config_new(json_root(doc), "home", &remarks);
    must((config == NULL) == (remarks.n_complaints > 0));
    must(remarks.n_complaints <= CONFIG_COMPLAINTS_MAX &&
         remarks.n_ignored <= CONFIG_COMPLAINTS_MAX);
    for (size_t i = 0; i < remarks.n_complaints; i++) {
        one_line(remarks.complaints[i], CONFIG_COMPLAINT_SIZE - 1);
    }
    for (size_t i = 0; i < remarks.n_ignored; i++) {
        one_line(remarks.ignored[i], CONFIG_COMPLAINT_SIZE - 1);
    }
    if (config) {
        check(config);
    }
    check_status(json_root(doc));
    config_free(config);
    json_free(doc);
    return 0;
}
