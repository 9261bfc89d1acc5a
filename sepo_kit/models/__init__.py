"""Language models as policies: loading, prompts, constrained decode, prefix sharing, generation."""

PICO, SMOLLM2 = "pico", "smollm2-135m"  # the models that need no hub
SHIPPED = (PICO, SMOLLM2)  # held to their hashes, or built here
