"""What a figure is: rows, statistics, drawing, claims with verdicts; the report; viewers of logs."""
