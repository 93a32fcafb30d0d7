/* One table of sub-commands. */
#include "tproxy/commands.h"

#include <string.h>

#include "admin/control_socket.h"
#include "lib/base.h"
#include "tproxy/check.h"
#include "tproxy/cleanup.h"
#include "tproxy/options.h"
#include "tproxy/probe.h"

/* Runs `log-level [LEVEL] [--control NAME]`. */
static int log_level(int argc, char **argv)
{
    const char *control = options_control, *level = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--control") == 0 && i + 1 < argc) {
            control = argv[++i];
        } else if (!level) {
            level = argv[i];
        } else {
            options_die("usage: tproxy log-level [LEVEL] [--control NAME]");
        }
    }
    return control_socket_log_level(control, level);
}

/* The command's word, and the name of a program that stands for `tproxy WORD`, if there is one. */
static const struct {
    const char *word, *program;
    int (*run)(int argc, char **argv); /* argv[0] is the word or the program; the exit code */
} commands[] = {
    {"log-level", "change-log-level", log_level},
    {"check", NULL, check_command},
    {"cleanup", NULL, cleanup_command},
    {"probe", NULL, probe_command},
};

bool commands_run(int argc, char **argv, int *code)
{
    const char *slash = strrchr(argv[0], '/'), *program = slash ? slash + 1 : argv[0];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i].program && strcmp(program, commands[i].program) == 0) {
            *code = commands[i].run(argc, argv);
            return true;
        }
        if (argc > 1 && strcmp(argv[1], commands[i].word) == 0) {
            *code = commands[i].run(argc - 1, argv + 1);
            return true;
        }
    }
    return false;
}
