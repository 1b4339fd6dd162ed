"""Decoding strategies, one file each, all batched over requests and lists.

Every file exports ``Config`` and two verbs:

``propose(generator, memory, *, length, count, rng, config) -> lists_BGL``
    ``count`` lists for each encoded request, without gradient; one cached step a position writes all of them
    at once (except ``diverse``, whose lists depend on one another).
``decode(generator, batch, *, length, rng, config) -> Slate``
    the strategy's one list for each request; ``batch`` may be encoded already (a ``Memory``).

What holds for all of them:

- The generator works in evaluation mode (no dropout) and is left in the mode it came in; given the encoded
  request, ``rng`` settles everything.
- A request with N < L candidates gets all of them; behind the end of its lists stands index 0.
- Where a request has fewer distinct lists than ``count``, a strategy repeats lists rather than failing.
- ``Slate.log_prob_B`` is the list's log-probability under the generator's own policy (temperature 1, no
  truncation), whatever strategy chose the list.

``search.py`` (beam search over any scores) and ``local_search.py`` (over any value function) are the cores
that generators and rewards share; they are not strategies by themselves.
"""
