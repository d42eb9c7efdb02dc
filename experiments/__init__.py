"""One module per figure or claim: its runs per preset, its analysis, its claims, its drawing."""
