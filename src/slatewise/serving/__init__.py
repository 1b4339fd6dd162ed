"""Serving: a ranker behind a server, its features from a store, and what came of its lists back into the log.

``records`` says what is logged, ``log/`` keeps it durably and writes it out in the log schema, ``features/`` brings the
users', items' and histories' features to a request, ``recorder`` ties both to a server. Loads a ranker and
nothing that trains.
"""
