-- What clients of other products expect of a run: one name for it and all that repeats it, and a date that names one run.

ALTER TABLE runs ADD first_id uuid;            -- of a run that resumes or reruns another: the first of them all
WITH RECURSIVE repeated AS (
    SELECT id, parent_id AS first_id
    FROM runs r
    WHERE origin IN ('resume', 'rerun')
      AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent_id AND p.origin IN ('resume', 'rerun'))
    UNION ALL
    SELECT r.id, repeated.first_id
    FROM repeated
    JOIN runs r ON r.parent_id = repeated.id AND r.origin IN ('resume', 'rerun')
)
UPDATE runs SET first_id = repeated.first_id FROM repeated WHERE runs.id = repeated.id;
ALTER TABLE runs ADD CONSTRAINT what_repeats_a_run_knows_the_first
    CHECK ((origin IN ('resume', 'rerun')) = (first_id IS NOT NULL));
CREATE INDEX runs_that_repeat ON runs (first_id, id) WHERE first_id IS NOT NULL;
CREATE INDEX runs_of_a_date ON runs (pipeline_id, logical_date) WHERE logical_date IS NOT NULL;
