/* Follows the cluster: takes in what the watches report, and wakes the resources that it concerns.
 */
#ifndef TPROXY_CONTROLLER_WATCHES_H
#define TPROXY_CONTROLLER_WATCHES_H

#include <stdbool.h>

#include "controller/state.h"

/* Begins to follow everything. */
void watches_init(struct controller *controller);

/* Follows nothing any more. Everything seen so far stays known. */
void watches_stop(struct controller *controller);

/* Frees what has been seen, after watches_stop. */
void watches_free(struct controller *controller);

/* Tells whether the controller knows enough to act: everything that it follows has been listed,
 * CRs are known, and a configuration is in force. If not, *why says in words what is missing. */
bool watches_listed(const struct controller *controller, const char **why);

/* Has everything listed afresh that a former leader may have written last, as this process has been
 * elected. Its term begins (term_begin) in watches_resume, when that is done. */
void watches_list_again(struct controller *controller);

/* Runs all resources and compares all policies again: the result of watches_listed, or something
 * that many resources wait for, may have changed. */
void watches_resume(struct controller *controller);

#endif
