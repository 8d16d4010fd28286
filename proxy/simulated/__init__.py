"""The simulated provider: an OpenAI-shaped server that answers offline, with honest usage, pace and faults on demand.

Here: one outside world that Postern makes itself, for first steps, demos and tests. Not here: anything of a real call's path.
"""
