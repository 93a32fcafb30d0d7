/* The sub-command `probe`. The running process does the work (tproxy/probe_server.c); here its
 * lines are printed. */
#include "tproxy/probe.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "admin/control_socket.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/text.h"
#include "tproxy/diagnosis.h"
#include "tproxy/options.h"

static const char usage[] =
    "tproxy probe - log in to a mailbox as a client would, and say how each step went\n"
    "\n"
    "  tproxy probe [OPTION...] NAMESPACE/RESOURCE[/TENANT]    in a cluster, inside the container\n"
    "  tproxy probe [OPTION...] NAME                           in local mode\n"
    "\n"
    "The running tproxy does it. It counts as one login; nothing is deleted.\n"
    "\n"
    "  --again                even if the mail server has refused this login before: asking it\n"
    "                         again may lock the account\n"
    "  --user NAME            mail user, where each client logs in with a token of its own\n"
    "  --token-file FILE      the user's refresh token or authorization code; -: standard input\n"
    "  --json                 print one JSON object instead of lines\n"
    "  --control NAME         name of the control socket of the running tproxy (tproxy)\n"
    "  --help\n"
    "\n"
    "Exit status: 0 all went well, 1 no probe was made, 2 wrong usage, 10 and more a step "
    "failed.\n";

enum flag { FLAG_AGAIN = 256, FLAG_USER, FLAG_TOKEN_FILE, FLAG_JSON, FLAG_CONTROL, FLAG_HELP };

static const struct option flags[] = {
    {"again", no_argument, NULL, FLAG_AGAIN},
    {"user", required_argument, NULL, FLAG_USER},
    {"token-file", required_argument, NULL, FLAG_TOKEN_FILE},
    {"json", no_argument, NULL, FLAG_JSON},
    {"control", required_argument, NULL, FLAG_CONTROL},
    {"help", no_argument, NULL, FLAG_HELP},
    {0},
};

enum {
    PATIENCE = 180, /* seconds: more than the process gives a step */
    STEPS_MAX = 64 * 1024,
    TOKEN_SIZE = 12 * 1024 + 2, /* as much as a session takes, its line end included */
    DETAIL_INDENT = 16,         /* columns */
};

/* SGR sequences (ECMA-48 section 8.3.117). */
static const char red[] = "\033[31m", green[] = "\033[32m", faint[] = "\033[2m",
                  plain[] = "\033[0m";

struct probe {
    const char *control, *name;
    const char *user, *token_file; /* both or neither */
    bool again, json;
    bool in_colour;   /* standard output is a terminal, and nobody minds (no-color.org) */
    struct buf steps; /* JSON */
    int code;
    bool ended;
};

static void parse(struct probe *p, int argc, char **argv)
{
    int flag;
    optind = 0; /* getopt begins anew */
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case FLAG_AGAIN:
            p->again = true;
            break;
        case FLAG_USER:
            p->user = optarg;
            break;
        case FLAG_TOKEN_FILE:
            p->token_file = optarg;
            break;
        case FLAG_JSON:
            p->json = true;
            break;
        case FLAG_CONTROL:
            p->control = optarg;
            break;
        case FLAG_HELP:
            fputs(usage, stdout);
            exit(0);
        default:
            options_die("see tproxy probe --help");
        }
    }
    if (optind + 1 != argc || strlen(argv[optind]) > CONTROL_SOCKET_LINE_MAX / 2 ||
        strpbrk(argv[optind], " \t\r\n")) {
        options_die("name one mailbox; see tproxy probe --help");
    }
    p->name = argv[optind];
    if (!p->user != !p->token_file) {
        options_die("--user and --token-file belong together; see tproxy probe --help");
    }
    if (p->user && (!text_is_visible(str_of(p->user)) || !p->user[0] ||
                    strlen(p->user) > CONTROL_SOCKET_LINE_MAX / 2)) {
        options_die("--user takes a name without blanks; see tproxy probe --help");
    }
}

/* Reads the token of the user, one line. Ends the process when there is none. */
static void read_token(const struct probe *p, char token[static TOKEN_SIZE])
{
    bool standard = strcmp(p->token_file, "-") == 0;
    FILE *f = standard ? stdin : fopen(p->token_file, "r");
    if (!f) {
        fprintf(stderr, "tproxy: %s: %s\n", p->token_file, strerror(errno));
        exit(EXIT_FAILURE);
    }
    setvbuf(f, NULL, _IONBF, 0); /* no copy of the token in a buffer */
    size_t n = fread(token, 1, TOKEN_SIZE - 1, f);
    token[n] = '\0';
    token[strcspn(token, "\r\n")] = '\0';
    if (!standard) {
        fclose(f);
    }
    if (n == TOKEN_SIZE - 1 || !token[0] || text_has_control(str_of(token))) {
        explicit_bzero(token, TOKEN_SIZE);
        fprintf(stderr, "tproxy: %s has no token: one line of at most %d octets\n",
                standard ? "standard input" : p->token_file, TOKEN_SIZE - 2);
        exit(EXIT_FAILURE);
    }
}

/* Composes the request. It may hold a token: the caller wipes it. */
static void compose(const struct probe *p, char request[static CONTROL_SOCKET_PROBE_MAX])
{
    char token[TOKEN_SIZE];
    size_t n = text_fmt(request, CONTROL_SOCKET_PROBE_MAX, "probe %s%s", p->name,
                        p->again ? " again" : "");
    if (p->user) {
        read_token(p, token);
        text_fmt(request + n, CONTROL_SOCKET_PROBE_MAX - n, " as %s %s", p->user, token);
        explicit_bzero(token, sizeof(token));
    }
}

/* Adds the details of a step as members of an object. */
static int add_details(struct buf *out, struct str rest)
{
    int rc = buf_fmt(out, ",\"details\":{");
    for (bool first = true; rest.n; first = false) {
        struct str name = str_cut(&rest, '\t'), value = str_cut(&rest, '\t');
        rc |= buf_fmt(out, "%s", first ? "" : ",");
        rc |= json_quote(out, name);
        rc |= buf_fmt(out, ":");
        rc |= json_quote(out, value);
    }
    rc |= buf_fmt(out, "}");
    return rc;
}

/* Returns the sequence that begins or ends a colour. */
static const char *colour(const struct probe *p, const char *sequence)
{
    return p->in_colour ? sequence : "";
}

static void print_details(const struct probe *p, struct str rest)
{
    while (rest.n) {
        struct str name = str_cut(&rest, '\t'), value = str_cut(&rest, '\t');
        printf("%s%*s%.*s: %.*s%s\n", colour(p, faint), DETAIL_INDENT, "", STR_ARG(name),
               STR_ARG(value), colour(p, plain));
    }
}

static void take_step(struct probe *p, struct str rest)
{
    struct str took = str_cut(&rest, '\t'), name = str_cut(&rest, '\t');
    struct str result = str_cut(&rest, '\t'), text = str_cut(&rest, '\t');
    uint64_t us = 0;
    int rc = text_number(took, INT32_MAX, &us);
    (void)rc; /* it is the process's own number */
    if (p->json) {
        rc = buf_fmt(&p->steps, "%s{\"step\":", buf_len(&p->steps) ? "," : "");
        rc |= json_quote(&p->steps, name);
        rc |= json_fmt(&p->steps, ",'microseconds':%d,'result':", (int)us);
        rc |= json_quote(&p->steps, result);
        rc |= buf_fmt(&p->steps, ",\"text\":") | json_quote(&p->steps, text);
        rc |= add_details(&p->steps, rest);
        rc |= buf_fmt(&p->steps, "}");
        (void)rc; /* there are only few steps */
        return;
    }
    bool good = !diagnosis_of(result);
    printf("%s%9.1f ms  %.*s%s%s%.*s%s\n", colour(p, good ? "" : red), (double)us / 1000,
           STR_ARG(name), good ? "" : ": failed", text.n ? ": " : "", STR_ARG(text),
           colour(p, good ? "" : plain));
    print_details(p, rest);
}

static void print_json(const struct probe *p, struct str result, struct str text,
                       const struct diagnosis *diagnosis)
{
    struct buf out;
    buf_init(&out, SIZE_MAX);
    int rc = json_fmt(&out, "{'mailbox':%s,'result':", p->name) | json_quote(&out, result) |
             buf_fmt(&out, ",\"text\":") | json_quote(&out, text);
    if (diagnosis) {
        rc |= json_fmt(&out, ",'meaning':%s,'remedy':%s", diagnosis->meaning, diagnosis->remedy);
    }
    rc |= buf_fmt(&out, ",\"steps\":[%.*s]}", STR_ARG(buf_str(&p->steps)));
    printf("%.*s\n", rc == OK ? (int)buf_len(&out) : 0, buf_str(&out).p);
    buf_free(&out);
}

static void take_end(struct probe *p, struct str rest)
{
    struct str result = str_cut(&rest, '\t');
    const struct diagnosis *diagnosis = diagnosis_of(result);
    p->ended = true;
    p->code = diagnosis ? diagnosis->code : 0;
    if (p->json) {
        print_json(p, result, rest, diagnosis);
    } else if (diagnosis) {
        printf("%s%s: failed (%.*s): %s%s\n  %s\n", colour(p, red), p->name, STR_ARG(result),
               diagnosis->meaning, colour(p, plain), diagnosis->remedy);
    } else {
        printf("%s%s: ok%s\n", colour(p, green), p->name, colour(p, plain));
    }
}

static void on_line(const char *text, void *arg)
{
    struct str rest = str_of(text), word = str_cut(&rest, '\t');
    if (str_eq(word, "step")) {
        take_step(arg, rest);
    } else if (str_eq(word, "end")) {
        take_end(arg, rest);
    }
    fflush(stdout);
}

static bool wants_colour(void)
{
    const char *unwanted = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(unwanted && *unwanted) &&
           !(terminal && strcmp(terminal, "dumb") == 0);
}

int probe_command(int argc, char **argv)
{
    struct probe p = {.control = options_control, .in_colour = wants_colour()};
    char request[CONTROL_SOCKET_PROBE_MAX];
    struct error err;
    parse(&p, argc, argv);
    buf_init(&p.steps, STEPS_MAX);
    compose(&p, request);
    int rc = control_socket_follow(p.control, request, PATIENCE, on_line, &p, &err);
    explicit_bzero(request, sizeof(request));
    buf_free(&p.steps);
    if (rc != OK) {
        fprintf(stderr, "tproxy: %s\n", err.text);
    } else if (!p.ended) {
        fputs("tproxy: the running tproxy has ended\n", stderr);
    }
    return p.ended ? p.code : 1;
}
