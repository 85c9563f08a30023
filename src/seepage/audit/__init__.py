"""From a configuration to a record: `config` checks, `plan` lists the cells, `run` plays them."""
