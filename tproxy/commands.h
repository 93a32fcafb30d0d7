/* Sub-commands of the program: what it does instead of serving mailboxes. */
#ifndef TPROXY_TPROXY_COMMANDS_H
#define TPROXY_TPROXY_COMMANDS_H

#include <stdbool.h>

/* Runs the sub-command that the command line names and sets *code, the exit code of the process.
 * Returns false when it names none. Ends the process when the command's arguments make no sense. */
bool commands_run(int argc, char **argv, int *code);

#endif
