"""How other people's tools are told to use the gateway: one recipe a tool, shown by `tollhouse setup` or written by it.

`recipes` knows the tools and makes a `Plan` of one; `merging` puts a plan's settings into a file's text and leaves the rest of
it alone; `writing` does that on disk, all of it or nothing; `shown` puts a plan into words.
"""
