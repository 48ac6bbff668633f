"""A stand-in for trtllm-serve: as strict about its input as the real one, with no GPU and no model.

It is started as the real one is, ``python -m trtllm_operator.sandbox.fake_trtllm_serve MODEL --port 8000 ...``, and
behaves as the release named by ``FAKE_TRTLLM_VERSION`` (``data/engines.json``). It proves that a command is accepted,
and how the server looks from outside while it loads, serves, fails and drains. It proves nothing about speed or memory.

Environment, all of it optional; times are seconds:

``FAKE_TRTLLM_VERSION``        image tag to behave as; default: the operator's default tag
``FAKE_TRTLLM_GPUS``           GPUs this process sees; default 8
``FAKE_TRTLLM_LOAD_SECONDS``   time to load the model; the port refuses connections until then; default 0
``FAKE_TRTLLM_TOKEN_SECONDS``  time per generated token; default 0
``FAKE_TRTLLM_FAULT``          one of the names in ``faults.py``
``FAKE_TRTLLM_FAULT_SECONDS``  when a fault of the serving engine strikes, counted from ready; default 0
``FAKE_TRTLLM_RANKS``          ranks started by ``trtllm-llmapi-launch``; set by ``launch.py``
``FAKE_TRTLLM_UID``            user the server runs as; default 0, as in NVIDIA's image
``OMPI_COMM_WORLD_SIZE``       ranks started by mpirun; 1 means the server spawns its ranks itself

Read in TensorRT-LLM's sources or issues: the texts for unknown options and keys (click's and pydantic's own), world and
expert sizes, missing GPUs, an occupied port, a health check that fails, a missing model, an unknown architecture, lack
of GPU memory and a failing spawn. Approximations: the texts for indivisible heads, uneven pipelines and two ranks on
one GPU, the answer to a chat while the engine is dead, the death by SIGTERM after draining (uvicorn's way since
0.29), and the metric values, which are counts of what this process did or zero.
"""
