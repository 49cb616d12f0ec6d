"""The update rules of the study, exact on sharded parameters, and the learning-rate schedules."""
