"""A cluster without containers: real parts of Kubernetes, nodes and pods as namespaces of the
kernel, and stand-ins for the kubelet and the scheduler."""
