"""A reference diffusion trainer inside the loop train -> generate -> select -> train again.

Shi et al. 2025 (arXiv 2509.16499). Needs the extra `loop`. The pieces, each usable alone:

    config.resolve      options and presets
    data.load           images from files
    train.train         one diffusion model
    sample.generate     images from it
    features.Spaces     where distances are taken
    choose.choose       the next training set
    metrics.measure     entropy, generalisation, Frechet distance and more
    run.run             the loop in a folder that can be resumed
    report.page         runs compared
"""
