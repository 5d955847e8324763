"""Plan, explain, run, resume, analyse, apply: the only room that knows all the others."""
