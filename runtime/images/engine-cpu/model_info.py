# ruff: noqa: INP001 - a program of a build stage, not a package
"""Let vLLM look at the architectures of the demo's and the tests' models once, in the build.

vLLM starts a process that imports all of itself merely to learn what an architecture can do, and keeps the answer in
VLLM_CACHE_ROOT/modelinfos (vllm/model_executor/models/registry.py). With the answer in the image an engine's start
takes about 15 s of CPU time less. Other architectures work, and take that time.
"""

from vllm.model_executor.models import ModelRegistry

ARCHITECTURES = ("LlamaForCausalLM", "Qwen2ForCausalLM")

for architecture in ARCHITECTURES:
    print(ModelRegistry.models[architecture].inspect_model_cls())
