"""Speed, as ratios: one file a suite, each with ``Config`` and ``run(config, progress) -> list[Row]``.

Both sides of a ratio are measured in the same run, turn by turn, and the suite says beforehand what it
expects (``EXPECTED``). ``benchmarks/README.md`` says what each row means.
"""
