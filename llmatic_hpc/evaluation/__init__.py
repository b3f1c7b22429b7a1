"""Candidates on a compute node: gate, containment, measuring, repair, training, data.

Who may do what::

    judge          the worker, or the coordinator while it screens. Holds the labels, never
      │            executes what a model wrote, never imports torch.
      └ warm       one helper process per judge: has torch imported and the unlabelled images
        │          in memory, executes nothing itself
        └ child    one forked process per candidate: executes it inside :mod:`.confine` and
                   answers with class predictions, never with scores

Read :mod:`.container` first, then :mod:`.worker`. This room imports nothing of the search, the
generators, the record or the cluster, and importing it does not import torch.
"""
