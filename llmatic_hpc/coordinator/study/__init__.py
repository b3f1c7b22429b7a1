"""A study: variants, problems and writers over seeds, each run a process or a job of its own.

:mod:`.plan` says which runs there are, :mod:`.standing` how far each of them is, :mod:`.running`
and :mod:`.submitting` start what is missing, :mod:`.serving` is the one model of all of them,
:mod:`.progress` shows it, :mod:`.results` compares.
"""
