"""The router: an HTTP/1.1 proxy that sends each request to the engine which serves it with the least work.

It reads and writes HTTP itself, on uvloop with llhttp as parser: a request is parsed strictly and written anew, a
response is passed on as it comes. `policy` decides, everything in here is I/O.
"""
