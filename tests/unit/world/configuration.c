/* Objects that tests of the configuration write, and checks of the status. */
#include "tests/unit/world/configuration.h"

void put_key(const char *secret, const char *client)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "{'stringData':{'clientid':'%s','clientsecret':'hush','url':'http://127.0.0.1:1',"
             "'uri':'http://127.0.0.1:1'}}",
             client);
    fake_put("Secret", "vault", secret, text);
}

const char *said(const char *object, const char *type, const char **text)
{
    static char words[128], message[2048];
    struct json *doc =
        json_parse(str_of(text_at("TransparentProxy", HOME, object, "status.conditions")), NULL);
    words[0] = message[0] = '\0';
    for (struct json_value c = doc ? json_first(json_root(doc)) : (struct json_value){0};
         json_exists(c); c = json_next(c)) {
        char *status = json_strdup(json_get(c, "status"), NULL);
        char *reason = json_strdup(json_get(c, "reason"), NULL);
        char *says = json_strdup(json_get(c, "message"), NULL);
        if (json_is(json_get(c, "type"), type)) {
            text_fmt(words, sizeof(words), "%s %s", status, reason);
            text_fmt(message, sizeof(message), "%s", says);
        }
        free(status);
        free(reason);
        free(says);
    }
    json_free(doc);
    *text = message;
    return words;
}

void expect_said(const char *object, const char *state, const char *type, const char *expected,
                 const char *part)
{
    const char *text;
    assert_string_equal(text_at("TransparentProxy", HOME, object, "status.state"), state);
    assert_string_equal(said(object, type, &text), expected);
    if (!strstr(text, part)) {
        fail_msg("\"%s\" does not say \"%s\"", text, part);
    }
}

static void on_answer(const struct dest_answer *answer, void *arg)
{
    struct answer *a = arg;
    a->came = true;
    a->verdict = answer->verdict;
    a->err = answer->err;
}

static bool answer_came(void *arg)
{
    return ((struct answer *)arg)->came;
}

bool has_key(const char *instance)
{
    struct answer a = {.came = false};
    struct dest_ref ref = {.name = "inbox", .instance = instance};
    struct dest_source *service = dest_service(replica->dest);
    service->find(service, &ref, DEST_TO_CHECK, NULL, (struct dest_handler){on_answer, &a});
    turn_until(world.loop, answer_came, &a);
    turn_quietly(world.loop);
    assert_true(a.verdict == VERDICT_INSTANCE_NOT_CONFIGURED || a.verdict == VERDICT_UNREADABLE);
    return a.verdict == VERDICT_UNREADABLE;
}

void start(void)
{
    start_controller();
    pass(SECONDS(1));
    world_forget_journal();
}
