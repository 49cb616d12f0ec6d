"""What a run will need and cost, computed from its configuration alone: nothing is allocated and no device is asked.

`scenario` says what is computed, `sizes` how parameters and state are cut, `activations` what autograd keeps,
`memory` the peak of a step, `traffic` the bytes between devices, `cost` time and money, `failures` the time lost,
`nearest` the layout that fits, `page` the answer in words.
"""
