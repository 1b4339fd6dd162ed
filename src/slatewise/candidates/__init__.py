"""Where a request's candidates come from: one file a retriever.

Every retriever exports ``Config`` and one function of one signature::

    retrieve(config, interactions, requests, k, seed) -> Retrieved

``interactions`` (:class:`~slatewise.candidates.retrieval.Interactions`) are those of the training split only,
each with the row of the request it belongs to; ``requests``
(:class:`~slatewise.candidates.retrieval.Requests`) say whose candidates are wanted, what was exposed, and
which requests train; ``k`` is how many items each request gets besides its exposed ones.
:class:`~slatewise.candidates.retrieval.Retrieved` has the items and their scores, best first, the exposed
items' scores by the same fit, and item vectors.

The rule that all of them keep: **a training request's candidates and scores come from a fit that did not see
that request** (cross-fitting), every other request's from the fit on all training requests, unless the config
says ``fit = "in_sample"``. A retriever that can score every item also exports ``fit(config, interactions,
requests, seed) -> Fits`` for protocols that sample candidates by score.

``geometry`` and ``cooccurrence`` are no retrievers but floors: rankers that know no item, or no user, and
that every table of a protocol with drawn candidates has to print. ``clusters`` and ``semantic_ids`` are what models that
write items from the whole catalogue know it by.
"""
