/* Answers `tproxy probe`: a probe of pop3 for each client of the control socket that wants one. */
#include "tproxy/probe_server.h"

#include <stdlib.h>

#include "lib/mem.h"
#include "lib/text.h"
#include "pop3.h"
#include "pop3/probe.h"

enum { LINE_MAX = 2048 };

struct probe {
    struct control_client *client;
    struct pop3_probe *probe;
};

static void on_step(const struct pop3_probe_step *step, void *arg)
{
    const struct probe *p = arg;
    char line[LINE_MAX];
    size_t n = text_fmt(line, sizeof(line), "step\t%lld\t%s\t%s\t%s", (long long)step->took,
                        step->name, step->err ? fail_name(step->err->fail) : "ok",
                        step->err ? step->err->text : step->text);
    for (size_t i = 0; i < step->n_details; i++) {
        n += text_fmt(line + n, sizeof(line) - n, "\t%s\t%s", step->details[i].name,
                      step->details[i].value);
    }
    control_socket_say(p->client, line);
}

static void on_ended(const struct error *err, void *arg)
{
    struct probe *p = arg;
    char line[LINE_MAX];
    text_fmt(line, sizeof(line), "end\t%s\t%s", err ? fail_name(err->fail) : "ok",
             err ? err->text : "");
    control_socket_say(p->client, line);
    control_socket_end(p->client);
    free(p);
}

static void *begin(struct control_client *client, const struct control_probe *wanted,
                   struct error *err, void *arg)
{
    const struct pop3_probe_user user = {wanted->user, wanted->token};
    struct probe *p = mem_zalloc(sizeof(*p));
    struct pop3_probe_handler handler = {.step = on_step, .ended = on_ended, .arg = p};
    p->client = client;
    p->probe =
        pop3_probe(arg, wanted->name, wanted->again, wanted->user ? &user : NULL, &handler, err);
    if (!p->probe) {
        free(p);
        return NULL;
    }
    return p;
}

static void cancel(void *probe, void *arg)
{
    struct probe *p = probe;
    (void)arg;
    pop3_probe_cancel(p->probe);
    free(p);
}

struct control_socket_handler probe_server_handler(struct pop3 *pop3)
{
    return (struct control_socket_handler){.probe = begin, .cancel = cancel, .arg = pop3};
}
