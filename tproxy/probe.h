/* The sub-command `probe`: has the running process log in to a mailbox, and prints each step. */
#ifndef TPROXY_TPROXY_PROBE_H
#define TPROXY_TPROXY_PROBE_H

/* Prints the steps of a probe of the mailbox that the arguments name (argv[0] is the word of the
 * command). Returns the exit code: 0 all steps have succeeded, 1 there was no probe, 10 and more:
 * the class of the failure, see docs/troubleshooting.md. Ends the process with code 2 when the
 * arguments make no sense. */
int probe_command(int argc, char **argv);

#endif
