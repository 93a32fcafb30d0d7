/* The sub-command `check`: says what tproxy would make of some files, without serving them. */
#ifndef TPROXY_TPROXY_CHECK_H
#define TPROXY_TPROXY_CHECK_H

/* Judges the files that the arguments name (argv[0] is the word of the command) and prints the
 * result. Returns the exit code: 0 nothing is wrong, 1 something is wrong; ends the process with
 * code 2 when the arguments make no sense. */
int check_command(int argc, char **argv);

#endif
