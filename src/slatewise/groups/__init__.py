"""Groups: for each request a set of lists worth comparing (GoalRank §3.3 and App. C), one file a family.

Every family exports ``Config`` and ``build(config, context, *, count, rng) -> lists_BGL``, where the context
(:class:`slatewise.groups.context.Context`) holds the encoded request, the generator as it is now, the
auxiliary policies, the reward, and the lists that earlier families wrote.

The paper's seven families (App. C): ``autoregressive``, ``tree``, ``softmax-sampling``, ``markov``,
``random``, ``substitution``, ``diverse``. Its own list and its set M (§3.3): ``greedy``, ``auxiliary``.
Beyond the paper: ``logged``, ``local-search``. ``policy_mix.py`` makes a group of them, ``reference.py`` the
reference policy.
"""
