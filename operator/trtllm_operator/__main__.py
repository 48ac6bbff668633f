"""``python -m trtllm_operator`` is the same program as ``trtllm-operator``."""

from trtllm_operator.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
