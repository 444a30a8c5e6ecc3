"""What both versions of Airflow's API say alike: its words, and what our runs, blocks and pipelines are in them."""
