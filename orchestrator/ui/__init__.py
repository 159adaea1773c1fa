"""The control tower: server-rendered pages for operators, reviewers and clerks, nothing from elsewhere.

One file a group of pages; all of them hang their routes on `blueprint.routes`. Every page can be read, and everything
done, without script; `static/live.js` only keeps what is shown up to date.
"""
