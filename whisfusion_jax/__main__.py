"""`python -m whisfusion_jax`: the same as the `whisfusion` command."""

from whisfusion_jax.cli import main

if __name__ == "__main__":
    main()
