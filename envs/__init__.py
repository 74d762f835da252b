"""The compression problem as a Gymnasium environment; no training in it.

``import envs`` registers ``understudy/Compression-v0``; make it with the module prefix,
``gymnasium.make("envs:understudy/Compression-v0")``, from a process that has not imported it;
``gymnasium.make_vec`` gives the vector environment.
"""

from gymnasium.envs.registration import register, registry

from edge.renamed import install

install()

if "understudy/Compression-v0" not in registry:
    register(
        id="understudy/Compression-v0",
        entry_point="envs.gym.toy:make_toy_env",
        vector_entry_point="envs.gym.toy:make_toy_vector_env",
    )
