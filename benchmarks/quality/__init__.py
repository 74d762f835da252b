"""How good are the samplers? The parts of ``benchmarks/search_quality.py``, a module each.

small      task 1's network, its data and the distillation of one candidate
making     every candidate of task 1 distilled, resumably
binding    whether task 1's thresholds decide anything
table      what came of it, as one small Parquet file
resnet     task 2: ResNet-18, distilled live, each candidate once for all samplers
task       what a task is to the harness, and what its accuracies are held against
play       one search of one sampler, candidate by candidate
lines      files of lines that several processes add to
contest    all samplers, all seeds, in parallel processes
score      from searches to scores, intervals and who is ahead of whom
plots      the pictures
transfer   whether what was distilled for one network helps with another
"""
