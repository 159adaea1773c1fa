"""A simulation of the decision core: real verbs on instances in memory, and everything around them simulated.

Real are the definitions' plans, every pure verb, a leg's claim and record, what is done before a send, and what a reply
means. Simulated are Postgres (`world`), broker and dispatcher (`world`, `canvas`), the processes that carry a leg
(`worker`), the services with their ledgers (`service`), sub-workflows (`children`) and people (`people`). Each simulated
statement names the one that it stands for; `stored` puts these in its place, so that a test sees both come to the same.

A *schedule* is one random definition, started, driven by random moves (with faults), and then brought to its end
without faults. All that is random in it is a list of small numbers (`choices`), so that it can be repeated and shrunk.
Where a bug would be rare among all of them, a *scene* (`scenes`) says which definitions and moves there are.
"""
