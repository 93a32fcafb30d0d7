"""Random changes and faults, by a seed, around two replicas of tproxy in a cluster; again and again
the cluster has to be what a model says.

    steps.py     what happens next
    world.py     carries it out; settling
    facts.py     what users and administrators have made, as far as it counts
    model.py     facts --> the objects that there must be, by SPEC section 1
    past.py      what the model has to know of the time before: who has a name, whose Service stays
    snapshot.py  the objects that there are
    judge.py     compares the two
    fleet.py     the replicas, each with its proxy to the API server
    sessions.py  clients in the middle of a session
"""
