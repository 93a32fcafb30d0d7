/* The labels of all objects that we write, and their values. */
#ifndef TPROXY_CLUSTER_LABELS_H
#define TPROXY_CLUSTER_LABELS_H

#define LABEL_MANAGED_BY "app.kubernetes.io/managed-by" /* LABEL_MANAGER */
#define LABEL_HOME "tproxy/home"                        /* namespace of the installation */

/* The CR that an object was made for. The value for a long name is cut and ends in a digest; an
 * annotation with the same key has the full name. */
#define LABEL_CR_NAMESPACE "tproxy/destination-namespace"
#define LABEL_CR_NAME "tproxy/destination-name"

/* The name of this program, also at the start of the field manager's name (plan_writer). */
#define LABEL_MANAGER "tproxy"

#endif
