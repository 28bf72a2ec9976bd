"""Failures of servers that speak OpenAI's formats, mapped to the error tree.

* ``map_error(error) -> AdapterError``: total over what the openai SDK raises
* ``error_of_answer(status, body, headers) -> AdapterError``: an answer with an error status
* ``error_in_stream(error, headers) -> AdapterError``: the ``error`` value (object or text) that a stream tells
* ``blocked_prompt(status, body) -> RefusalDetail | None``: a filter stopped the prompt, which is an answer
"""
